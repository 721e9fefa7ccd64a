-- Beats. A lane is what a machine got when it opened an epoch: an alias, and policy's word for it. `gpus` holds 32
-- bytes for each GPU in the agreed order: its id and the tip of its chain.
CREATE TABLE beat_lane (
    alias BIGINT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    machine BYTEA NOT NULL REFERENCES machine (id),
    account BYTEA NOT NULL REFERENCES account (id),
    key BYTEA NOT NULL REFERENCES key (id),
    gpus BYTEA NOT NULL CHECK (length(gpus) % 32 = 0),
    opened_at BIGINT NOT NULL
);
CREATE INDEX beat_lane_epoch ON beat_lane (epoch);
CREATE INDEX beat_lane_key ON beat_lane (key);
-- The intake is told every half second which keys have ended.
CREATE INDEX key_ended ON key (revoked_at) WHERE revoked_at IS NOT NULL;

-- The chains behind GPUs' uptime, each signed with the GPU's own key before its first beat.
CREATE TABLE uptime_chain (
    gpu BYTEA NOT NULL REFERENCES gpu (id),
    starts BIGINT NOT NULL,
    tip BYTEA NOT NULL CHECK (length(tip) = 16),
    public_key BYTEA NOT NULL CHECK (length(public_key) = 32),
    signature BYTEA NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (gpu, starts, tip)
);

-- The deepest value of a chain that was shown by beats for minutes of an hour.
CREATE TABLE uptime_link (
    gpu BYTEA NOT NULL REFERENCES gpu (id),
    hour BIGINT NOT NULL,
    tip BYTEA NOT NULL CHECK (length(tip) = 16),
    count BIGINT NOT NULL,
    preimage BYTEA NOT NULL CHECK (length(preimage) = 16),
    PRIMARY KEY (gpu, hour, tip)
);
CREATE INDEX uptime_link_hour ON uptime_link (hour);

-- Minutes that count by a signed report alone, without a chain.
ALTER TABLE uptime ADD COLUMN unchained BIGINT NOT NULL DEFAULT 0;

-- Minutes throughout which the intake took beats, sixty bits an hour. What is missing between the first and now is
-- the network's own outage.
CREATE TABLE intake_up (
    hour BIGINT PRIMARY KEY,
    bits BIGINT NOT NULL
);

-- Folds minutes into the books. A minute that is new and whose snapshot was taken is late; the lock keeps a snapshot
-- from being taken in between, and one server's fold from another's. `seen` is the newest minute's last second.
CREATE FUNCTION gangline_intake.fold(
    now_seconds BIGINT,
    gpus BYTEA[], hours BIGINT[], hour_bits BIGINT[], without_chain BIGINT[], seen BIGINT[],
    link_gpus BYTEA[], link_hours BIGINT[], tips BYTEA[], counts BIGINT[], preimages BYTEA[],
    up_hours BIGINT[], up_bits BIGINT[]
) RETURNS VOID LANGUAGE plpgsql SECURITY DEFINER SET search_path = gangline, pg_temp AS $$
DECLARE
    taken_until BIGINT;
BEGIN
    PERFORM pg_advisory_xact_lock(7402260001);
    -- Machines before GPUs, as everywhere, and each in the order of ids.
    PERFORM 1 FROM machine m WHERE m.id IN (SELECT g.machine FROM gpu g WHERE g.id = ANY (gpus))
        ORDER BY m.id FOR NO KEY UPDATE;
    PERFORM 1 FROM gpu g WHERE g.id = ANY (gpus) ORDER BY g.id FOR NO KEY UPDATE;
    SELECT (s.head::jsonb ->> 'ends')::BIGINT INTO taken_until
        FROM snapshot s ORDER BY s.season DESC, s.period DESC LIMIT 1;
    taken_until := coalesce(taken_until, 0);
    INSERT INTO uptime AS u (gpu, hour, bits, late, unchained)
        SELECT b.gpu, b.hour, b.bits, CASE
            WHEN taken_until >= b.hour * 60 + 60 THEN b.bits
            WHEN taken_until <= b.hour * 60 THEN 0
            ELSE b.bits & ((1::BIGINT << (taken_until - b.hour * 60)::INT) - 1)
        END, b.unchained
        FROM (SELECT s.gpu, s.hour, bit_or(s.bits) AS bits, bit_or(s.unchained) AS unchained
              FROM unnest(gpus, hours, hour_bits, without_chain) AS s (gpu, hour, bits, unchained)
              GROUP BY s.gpu, s.hour) b
        JOIN gpu g ON g.id = b.gpu
        ORDER BY b.gpu, b.hour
        -- A repeat of a minute that was in time stays in time, and one with a chain is not without any more.
        ON CONFLICT (gpu, hour) DO UPDATE SET
            late = u.late | (excluded.late & ~u.bits),
            unchained = (u.unchained | (excluded.unchained & ~u.bits)) & ~(excluded.bits & ~excluded.unchained),
            bits = u.bits | excluded.bits;
    -- A late beat is uptime, but no sign of life now.
    UPDATE gpu g SET beat_at = n.seen
        FROM (SELECT s.gpu, max(s.seen) AS seen FROM unnest(gpus, seen) AS s (gpu, seen) GROUP BY s.gpu) n
        WHERE g.id = n.gpu AND g.beat_at < n.seen;
    -- By this the projection finds what was folded, also where the beat itself is old.
    UPDATE machine m SET seen_at = now_seconds
        WHERE m.id IN (SELECT g.machine FROM gpu g WHERE g.id = ANY (gpus)) AND m.seen_at < now_seconds;
    INSERT INTO uptime_link AS l (gpu, hour, tip, count, preimage)
        SELECT DISTINCT ON (n.gpu, n.hour, n.tip) n.gpu, n.hour, n.tip, n.count, n.preimage
        FROM unnest(link_gpus, link_hours, tips, counts, preimages) AS n (gpu, hour, tip, count, preimage)
        ORDER BY n.gpu, n.hour, n.tip, n.count DESC
        ON CONFLICT (gpu, hour, tip) DO UPDATE SET count = excluded.count, preimage = excluded.preimage
            WHERE l.count < excluded.count;
    INSERT INTO intake_up AS i (hour, bits)
        SELECT n.hour, bit_or(n.bits) FROM unnest(up_hours, up_bits) AS n (hour, bits) GROUP BY n.hour ORDER BY n.hour
        ON CONFLICT (hour) DO UPDATE SET bits = i.bits | excluded.bits;
END
$$;

-- What anyone needs to check uptime: chains and the values shown of them, and when the intake was up.
CREATE TABLE gangline_public.uptime_chain (
    gpu BYTEA NOT NULL,
    starts BIGINT NOT NULL,
    tip BYTEA NOT NULL CHECK (length(tip) = 16),
    public_key BYTEA NOT NULL CHECK (length(public_key) = 32),
    signature BYTEA NOT NULL CHECK (length(signature) = 64),
    PRIMARY KEY (gpu, starts, tip)
);
CREATE TABLE gangline_public.uptime_link (
    gpu BYTEA NOT NULL,
    hour BIGINT NOT NULL,
    tip BYTEA NOT NULL CHECK (length(tip) = 16),
    count BIGINT NOT NULL,
    preimage BYTEA NOT NULL CHECK (length(preimage) = 16),
    PRIMARY KEY (gpu, hour, tip)
);
ALTER TABLE gangline_public.uptime ADD COLUMN unchained BIGINT NOT NULL DEFAULT 0;
CREATE TABLE gangline_public.intake_up (
    hour BIGINT PRIMARY KEY,
    bits BIGINT NOT NULL
);
