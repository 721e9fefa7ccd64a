-- The public projection: a schema of its own, which is all that the explorer's role can read. No column here
-- can hold an account, a machine, a key or an address.

CREATE TABLE gangline_public.gpu (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    id_text TEXT NOT NULL,
    model TEXT NOT NULL,
    standing TEXT NOT NULL,
    row TEXT NOT NULL
);
CREATE INDEX gpu_standing ON gangline_public.gpu (standing, id);

CREATE TABLE gangline_public.uptime (
    gpu BYTEA NOT NULL,
    hour BIGINT NOT NULL,
    bits BIGINT NOT NULL,
    late BIGINT NOT NULL,
    PRIMARY KEY (gpu, hour)
);

CREATE TABLE gangline_public.proof (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    gpu BYTEA NOT NULL,
    judged_at BIGINT NOT NULL,
    row TEXT NOT NULL,
    transcript TEXT
);
CREATE INDEX proof_gpu ON gangline_public.proof (gpu, judged_at);

CREATE TABLE gangline_public.season (
    number BIGINT PRIMARY KEY,
    row TEXT NOT NULL
);

CREATE TABLE gangline_public.snapshot (
    season BIGINT NOT NULL,
    period BIGINT NOT NULL,
    row TEXT NOT NULL,
    PRIMARY KEY (season, period)
);

CREATE TABLE gangline_public.entry (
    season BIGINT NOT NULL,
    period BIGINT NOT NULL,
    gpu BYTEA NOT NULL,
    row TEXT NOT NULL,
    PRIMARY KEY (season, period, gpu)
);
CREATE INDEX entry_gpu ON gangline_public.entry (gpu, season, period);

CREATE TABLE gangline_public.totals (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    row TEXT NOT NULL
);

-- Connected GPUs by minute, for the last day's curve.
CREATE TABLE gangline_public.connected (
    minute BIGINT PRIMARY KEY,
    gpus BIGINT NOT NULL
);

-- The network's log as anyone may fetch it: entries, tiles of hashes, and the newest checkpoint.

CREATE TABLE gangline_public.log_entry (
    idx BIGINT PRIMARY KEY CHECK (idx >= 0),
    entry BYTEA NOT NULL
);

CREATE TABLE gangline_public.log_tile (
    level BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    hashes BYTEA NOT NULL,
    PRIMARY KEY (level, idx)
);

CREATE TABLE gangline_public.log_checkpoint (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    size BIGINT NOT NULL,
    root BYTEA NOT NULL CHECK (length(root) = 32),
    note TEXT NOT NULL
);
