-- Appeals, and the verifiers that they are put before. `row` is the appeal as anybody sees it; `proof` is its re-run.
CREATE TABLE verifier (
    key BYTEA PRIMARY KEY CHECK (length(key) = 32),
    name TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE TABLE appeal (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    gpu BYTEA NOT NULL REFERENCES gpu (id),
    opened_at BIGINT NOT NULL,
    proof BYTEA REFERENCES epoch (id),
    ended_at BIGINT,
    row TEXT NOT NULL
);
CREATE UNIQUE INDEX appeal_open ON appeal (gpu) WHERE ended_at IS NULL;

-- Appeals as anybody sees them.
CREATE TABLE gangline_public.appeal (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    gpu BYTEA NOT NULL CHECK (length(gpu) = 16),
    opened_at BIGINT NOT NULL,
    row TEXT NOT NULL
);
CREATE INDEX appeal_gpu ON gangline_public.appeal (gpu, opened_at);
