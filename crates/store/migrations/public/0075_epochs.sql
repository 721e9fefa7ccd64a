CREATE TABLE epoch (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    gpu BLOB NOT NULL CHECK (length(gpu) = 16),
    judged_at INTEGER NOT NULL,
    row TEXT NOT NULL,
    transcript TEXT
) STRICT;
CREATE INDEX epoch_gpu ON epoch (gpu, judged_at);
CREATE INDEX epoch_judged ON epoch (judged_at);

-- One row for each table of calibration, which is public whole.
CREATE TABLE calibration (
    version INTEGER PRIMARY KEY,
    row TEXT NOT NULL
) STRICT;
