-- GPUs of which something public was rewritten: a queue, kept by triggers, so that no write can forget to. It is
-- only added to here and only taken from by the projector, so that neither waits for the other and no commit that
-- comes late is missed. Beats are not in it: they change every GPU every minute.
CREATE TABLE gpu_changed (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gpu BYTEA NOT NULL CHECK (length(gpu) = 16)
);
INSERT INTO gpu_changed (gpu) SELECT id FROM gpu ORDER BY id;

CREATE FUNCTION gpu_rewritten() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO gpu_changed (gpu) VALUES (new.id);
    RETURN NULL;
END
$$;
CREATE FUNCTION machine_rewritten() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO gpu_changed (gpu) SELECT id FROM gpu WHERE machine = new.id;
    RETURN NULL;
END
$$;
CREATE FUNCTION cluster_rewritten() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO gpu_changed (gpu) VALUES (new.gpu);
    RETURN NULL;
END
$$;
CREATE TRIGGER gpu_made AFTER INSERT ON gpu FOR EACH ROW EXECUTE FUNCTION gpu_rewritten();
CREATE TRIGGER gpu_rewritten AFTER UPDATE ON gpu FOR EACH ROW
    WHEN ((old.claim, old.label, old.present, old.standing, old.reason, old.matrix_mmacs, old.memory_bytes, old.proof_at) <> (new.claim, new.label, new.present, new.standing, new.reason, new.matrix_mmacs, new.memory_bytes, new.proof_at) OR old.offer IS DISTINCT FROM new.offer)
    EXECUTE FUNCTION gpu_rewritten();
CREATE TRIGGER machine_rewritten AFTER UPDATE ON machine FOR EACH ROW
    WHEN (old.paused <> new.paused OR old.left_at IS DISTINCT FROM new.left_at)
    EXECUTE FUNCTION machine_rewritten();
CREATE TRIGGER cluster_made AFTER INSERT ON cluster FOR EACH ROW EXECUTE FUNCTION cluster_rewritten();
CREATE TRIGGER cluster_moved AFTER UPDATE ON cluster FOR EACH ROW WHEN (old.state <> new.state)
    EXECUTE FUNCTION cluster_rewritten();

-- Who was heard of lately is found without a look at everybody.
CREATE INDEX machine_seen ON machine (seen_at);
CREATE INDEX gpu_beat ON gpu (beat_at);

-- A machine that a load generator made up. It has keys and beats like any other, and is called what it is
-- wherever it shows.
ALTER TABLE machine ADD COLUMN simulated BOOLEAN NOT NULL DEFAULT false;
CREATE INDEX machine_simulated ON machine (id) WHERE simulated;

-- A snapshot's entries, 64 to a row in the order of GPU ids: records as rules::groups has them, and their leaf
-- of the snapshot's tree.
CREATE TABLE entries (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    season BIGINT NOT NULL,
    period BIGINT NOT NULL,
    first BYTEA NOT NULL CHECK (length(first) = 16),
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    records BYTEA NOT NULL,
    FOREIGN KEY (season, period) REFERENCES snapshot (season, period)
);
CREATE UNIQUE INDEX entries_first ON entries (season, period, first) INCLUDE (hash);

-- What every GPU has earned in a season so far.
CREATE TABLE season_share (
    season BIGINT NOT NULL,
    gpu BYTEA NOT NULL CHECK (length(gpu) = 16),
    share BIGINT NOT NULL,
    PRIMARY KEY (season, gpu)
);

-- The projection's side of it: what lists are sought by, beside the row itself.
CREATE TABLE gangline_public.model (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
ALTER TABLE gangline_public.gpu ADD COLUMN model_id BIGINT NOT NULL DEFAULT 0;
ALTER TABLE gangline_public.gpu ADD COLUMN kind TEXT NOT NULL DEFAULT '';
-- 1 connected, 2 rentable, 4 hired, 8 simulated.
ALTER TABLE gangline_public.gpu ADD COLUMN flags BIGINT NOT NULL DEFAULT 0;
-- The look of the projector in which the row changed last.
ALTER TABLE gangline_public.gpu ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;
CREATE INDEX gpu_model ON gangline_public.gpu (model_id, id);
CREATE INDEX gpu_model_standing ON gangline_public.gpu (model_id, standing, id);
CREATE INDEX gpu_seq ON gangline_public.gpu (seq, id);

-- GPUs by what they are: totals without a look at every row.
CREATE TABLE gangline_public.counted (
    model_id BIGINT NOT NULL,
    kind TEXT NOT NULL,
    standing TEXT NOT NULL,
    flags BIGINT NOT NULL,
    gpus BIGINT NOT NULL,
    PRIMARY KEY (model_id, kind, standing, flags)
);
CREATE FUNCTION gpu_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        UPDATE gangline_public.counted c SET gpus = c.gpus - 1
            WHERE (c.model_id, c.kind, c.standing, c.flags) = (old.model_id, old.kind, old.standing, old.flags);
    END IF;
    INSERT INTO gangline_public.counted AS c (model_id, kind, standing, flags, gpus)
        VALUES (new.model_id, new.kind, new.standing, new.flags, 1)
        ON CONFLICT (model_id, kind, standing, flags) DO UPDATE SET gpus = c.gpus + 1;
    RETURN NULL;
END
$$;
CREATE TRIGGER gpu_came AFTER INSERT ON gangline_public.gpu FOR EACH ROW EXECUTE FUNCTION gpu_counted();
CREATE TRIGGER gpu_moved AFTER UPDATE ON gangline_public.gpu FOR EACH ROW
    WHEN ((old.model_id, old.kind, old.standing, old.flags) <> (new.model_id, new.kind, new.standing, new.flags))
    EXECUTE FUNCTION gpu_counted();

CREATE INDEX proof_judged ON gangline_public.proof (judged_at);

-- How far the projector has followed the books.
CREATE TABLE gangline_public.followed (
    what TEXT PRIMARY KEY,
    seq BIGINT NOT NULL
);

-- A snapshot's entries, 64 to a row in the order of GPU ids, with their leaf of the snapshot's tree.
CREATE TABLE gangline_public.entries (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    season BIGINT NOT NULL,
    period BIGINT NOT NULL,
    first BYTEA NOT NULL CHECK (length(first) = 16),
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    records BYTEA NOT NULL
);
CREATE UNIQUE INDEX entries_first ON gangline_public.entries (season, period, first) INCLUDE (hash);

-- What every GPU has earned in a season so far.
CREATE TABLE gangline_public.season_share (
    season BIGINT NOT NULL,
    gpu BYTEA NOT NULL CHECK (length(gpu) = 16),
    share BIGINT NOT NULL,
    PRIMARY KEY (season, gpu)
);
