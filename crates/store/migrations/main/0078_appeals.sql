-- Appeals, and the verifiers that they are put before. `row` is the appeal as anybody sees it; `proof` is its re-run.
CREATE TABLE verifier (
    key BLOB PRIMARY KEY CHECK (length(key) = 32),
    name TEXT NOT NULL,
    added_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT;
CREATE TABLE appeal (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    gpu BLOB NOT NULL REFERENCES gpu (id),
    opened_at INTEGER NOT NULL,
    proof BLOB REFERENCES epoch (id),
    ended_at INTEGER,
    row TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX appeal_open ON appeal (gpu) WHERE ended_at IS NULL;
