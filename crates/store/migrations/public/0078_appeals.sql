-- Appeals as anybody sees them.
CREATE TABLE appeal (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    gpu BLOB NOT NULL CHECK (length(gpu) = 16),
    opened_at INTEGER NOT NULL,
    row TEXT NOT NULL
) STRICT;
CREATE INDEX appeal_gpu ON appeal (gpu, opened_at);
