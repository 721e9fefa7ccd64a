-- Epoch proofs: memory, random reads and arithmetic of GPUs that joined, three at enrolment and one an hour.
-- `hour` is that of the whole network's bell; none for those of enrolment. `work` is a hash of what is asked.
CREATE TABLE epoch (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    gpu BLOB NOT NULL REFERENCES gpu (id),
    round INTEGER NOT NULL,
    hour INTEGER,
    bell_millis INTEGER NOT NULL,
    gpu_key BLOB NOT NULL CHECK (length(gpu_key) = 32),
    work BLOB NOT NULL CHECK (length(work) = 32),
    challenge TEXT NOT NULL,
    deadline_millis INTEGER,
    commitment TEXT,
    nonce BLOB,
    elapsed_millis INTEGER,
    opening TEXT,
    signature TEXT,
    accepted INTEGER,
    outcome TEXT,
    finding TEXT,
    judged_at INTEGER
) STRICT;
CREATE INDEX epoch_gpu ON epoch (gpu, round, bell_millis);
CREATE UNIQUE INDEX epoch_hour ON epoch (gpu, hour) WHERE hour IS NOT NULL;
CREATE INDEX epoch_open ON epoch (bell_millis) WHERE judged_at IS NULL;
CREATE INDEX epoch_judged ON epoch (judged_at);

-- Tables of calibration: medians that set deadlines once they are promoted. `body` is the table that `signature`
-- is over, by the key `signer`.
CREATE TABLE calibration (
    version INTEGER PRIMARY KEY,
    state TEXT NOT NULL,
    body TEXT NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    signer BLOB NOT NULL CHECK (length(signer) = 32),
    signature BLOB NOT NULL CHECK (length(signature) = 64),
    made_at INTEGER NOT NULL,
    judged INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0
) STRICT;
