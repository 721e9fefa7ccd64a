-- The public projection: a file of its own, which the explorer opens read-only. No column here can hold
-- an account, a machine, a key or an address.

CREATE TABLE gpu (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    id_text TEXT NOT NULL,
    model TEXT NOT NULL COLLATE NOCASE,
    standing TEXT NOT NULL,
    row TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX gpu_standing ON gpu (standing, id);

CREATE TABLE uptime (
    gpu BLOB NOT NULL,
    hour INTEGER NOT NULL,
    bits INTEGER NOT NULL,
    late INTEGER NOT NULL,
    PRIMARY KEY (gpu, hour)
) STRICT, WITHOUT ROWID;

CREATE TABLE proof (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    gpu BLOB NOT NULL,
    judged_at INTEGER NOT NULL,
    row TEXT NOT NULL,
    transcript TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX proof_gpu ON proof (gpu, judged_at);

CREATE TABLE season (
    number INTEGER PRIMARY KEY,
    row TEXT NOT NULL
) STRICT;

CREATE TABLE snapshot (
    season INTEGER NOT NULL,
    period INTEGER NOT NULL,
    row TEXT NOT NULL,
    PRIMARY KEY (season, period)
) STRICT, WITHOUT ROWID;

CREATE TABLE entry (
    season INTEGER NOT NULL,
    period INTEGER NOT NULL,
    gpu BLOB NOT NULL,
    row TEXT NOT NULL,
    PRIMARY KEY (season, period, gpu)
) STRICT, WITHOUT ROWID;
CREATE INDEX entry_gpu ON entry (gpu, season, period);

CREATE TABLE totals (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    row TEXT NOT NULL
) STRICT;

-- Connected GPUs by minute, for the last day's curve.
CREATE TABLE connected (
    minute INTEGER PRIMARY KEY,
    gpus INTEGER NOT NULL
) STRICT;
