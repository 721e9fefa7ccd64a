-- Old values of chains, packed: one row for each chain and day, the deepest that was shown in it. Values of hours move here
-- with their uptime.
CREATE TABLE uptime_shown (
    gpu BLOB NOT NULL CHECK (length(gpu) = 16),
    day INTEGER NOT NULL,
    tip BLOB NOT NULL CHECK (length(tip) = 16),
    count INTEGER NOT NULL,
    preimage BLOB NOT NULL CHECK (length(preimage) = 16),
    PRIMARY KEY (gpu, day, tip)
) STRICT, WITHOUT ROWID;
