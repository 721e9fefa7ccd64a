-- Old values of chains, packed: one row for each chain and day, the deepest that was shown in it. Values of hours move here.
CREATE TABLE uptime_shown (
    gpu BYTEA NOT NULL CHECK (length(gpu) = 16),
    day BIGINT NOT NULL,
    tip BYTEA NOT NULL CHECK (length(tip) = 16),
    count BIGINT NOT NULL,
    preimage BYTEA NOT NULL CHECK (length(preimage) = 16),
    PRIMARY KEY (gpu, day, tip)
);
CREATE TABLE gangline_public.uptime_shown (
    gpu BYTEA NOT NULL,
    day BIGINT NOT NULL,
    tip BYTEA NOT NULL,
    count BIGINT NOT NULL,
    preimage BYTEA NOT NULL,
    PRIMARY KEY (gpu, day, tip)
);
