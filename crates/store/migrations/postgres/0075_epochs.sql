-- Epoch proofs: memory, random reads and arithmetic of GPUs that joined, three at enrolment and one an hour.
-- `hour` is that of the whole network's bell; none for those of enrolment. `work` is a hash of what is asked.
CREATE TABLE epoch (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    gpu BYTEA NOT NULL REFERENCES gpu (id),
    round BIGINT NOT NULL,
    hour BIGINT,
    bell_millis BIGINT NOT NULL,
    gpu_key BYTEA NOT NULL CHECK (length(gpu_key) = 32),
    work BYTEA NOT NULL CHECK (length(work) = 32),
    challenge TEXT NOT NULL,
    deadline_millis BIGINT,
    commitment TEXT,
    nonce BYTEA,
    elapsed_millis BIGINT,
    opening TEXT,
    signature TEXT,
    accepted BOOLEAN,
    outcome TEXT,
    finding TEXT,
    judged_at BIGINT
);
CREATE INDEX epoch_gpu ON epoch (gpu, round, bell_millis);
CREATE UNIQUE INDEX epoch_hour ON epoch (gpu, hour) WHERE hour IS NOT NULL;
CREATE INDEX epoch_open ON epoch (bell_millis) WHERE judged_at IS NULL;
CREATE INDEX epoch_judged ON epoch (judged_at);

-- Tables of calibration: medians that set deadlines once they are promoted. `body` is the table that `signature`
-- is over, by the key `signer`.
CREATE TABLE calibration (
    version BIGINT PRIMARY KEY,
    state TEXT NOT NULL,
    body TEXT NOT NULL,
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    signer BYTEA NOT NULL CHECK (length(signer) = 32),
    signature BYTEA NOT NULL CHECK (length(signature) = 64),
    made_at BIGINT NOT NULL,
    judged BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE gangline_public.epoch (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    gpu BYTEA NOT NULL CHECK (length(gpu) = 16),
    judged_at BIGINT NOT NULL,
    row TEXT NOT NULL,
    transcript TEXT
);
CREATE INDEX epoch_gpu ON gangline_public.epoch (gpu, judged_at);
CREATE INDEX epoch_judged ON gangline_public.epoch (judged_at);

-- One row for each table of calibration, which is public whole.
CREATE TABLE gangline_public.calibration (
    version BIGINT PRIMARY KEY,
    row TEXT NOT NULL
);
