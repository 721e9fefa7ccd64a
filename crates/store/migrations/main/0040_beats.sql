-- Beats. A lane is what a machine got when it opened an epoch: an alias, and policy's word for it. `gpus` holds 32
-- bytes for each GPU in the agreed order: its id and the tip of its chain.
CREATE TABLE beat_lane (
    alias INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    machine BLOB NOT NULL REFERENCES machine (id),
    account BLOB NOT NULL REFERENCES account (id),
    key BLOB NOT NULL REFERENCES key (id),
    gpus BLOB NOT NULL CHECK (length(gpus) % 32 = 0),
    opened_at INTEGER NOT NULL
) STRICT;
CREATE INDEX beat_lane_epoch ON beat_lane (epoch);
CREATE INDEX beat_lane_key ON beat_lane (key);
-- The intake is told every half second which keys have ended.
CREATE INDEX key_ended ON key (revoked_at) WHERE revoked_at IS NOT NULL;

-- The chains behind GPUs' uptime, each signed with the GPU's own key before its first beat.
CREATE TABLE uptime_chain (
    gpu BLOB NOT NULL REFERENCES gpu (id),
    starts INTEGER NOT NULL,
    tip BLOB NOT NULL CHECK (length(tip) = 16),
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    signature BLOB NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (gpu, starts, tip)
) STRICT, WITHOUT ROWID;

-- The deepest value of a chain that was shown by beats for minutes of an hour.
CREATE TABLE uptime_link (
    gpu BLOB NOT NULL REFERENCES gpu (id),
    hour INTEGER NOT NULL,
    tip BLOB NOT NULL CHECK (length(tip) = 16),
    count INTEGER NOT NULL,
    preimage BLOB NOT NULL CHECK (length(preimage) = 16),
    PRIMARY KEY (gpu, hour, tip)
) STRICT, WITHOUT ROWID;
CREATE INDEX uptime_link_hour ON uptime_link (hour);

-- Minutes that count by a signed report alone, without a chain.
ALTER TABLE uptime ADD COLUMN unchained INTEGER NOT NULL DEFAULT 0;

-- Minutes throughout which the intake took beats, sixty bits an hour. What is missing between the first and now is
-- the network's own outage.
CREATE TABLE intake_up (
    hour INTEGER PRIMARY KEY,
    bits INTEGER NOT NULL
) STRICT;
