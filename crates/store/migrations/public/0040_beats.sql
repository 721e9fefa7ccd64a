-- What anyone needs to check uptime: chains and the values shown of them, and when the intake was up.
CREATE TABLE uptime_chain (
    gpu BLOB NOT NULL,
    starts INTEGER NOT NULL,
    tip BLOB NOT NULL CHECK (length(tip) = 16),
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    signature BLOB NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (gpu, starts, tip)
) STRICT, WITHOUT ROWID;

CREATE TABLE uptime_link (
    gpu BLOB NOT NULL,
    hour INTEGER NOT NULL,
    tip BLOB NOT NULL CHECK (length(tip) = 16),
    count INTEGER NOT NULL,
    preimage BLOB NOT NULL CHECK (length(preimage) = 16),
    PRIMARY KEY (gpu, hour, tip)
) STRICT, WITHOUT ROWID;

ALTER TABLE uptime ADD COLUMN unchained INTEGER NOT NULL DEFAULT 0;

CREATE TABLE intake_up (
    hour INTEGER PRIMARY KEY,
    bits INTEGER NOT NULL
) STRICT;
