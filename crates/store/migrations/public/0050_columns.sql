-- What lists are sought by, beside the row itself.
CREATE TABLE model (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO model (name) SELECT DISTINCT model COLLATE BINARY FROM gpu;

ALTER TABLE gpu ADD COLUMN model_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE gpu ADD COLUMN kind TEXT NOT NULL DEFAULT '';
-- 1 connected, 2 rentable, 4 hired, 8 simulated.
ALTER TABLE gpu ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;
-- The look of the projector in which the row changed last.
ALTER TABLE gpu ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
UPDATE gpu SET
    model_id = (SELECT m.id FROM model m WHERE m.name = gpu.model COLLATE BINARY),
    kind = json_extract(row, '$.kind'),
    flags = json_extract(row, '$.connected') + 2 * json_extract(row, '$.rentable') + 4 * json_extract(row, '$.hired');
CREATE INDEX gpu_model ON gpu (model_id, id);
CREATE INDEX gpu_model_standing ON gpu (model_id, standing, id);
CREATE INDEX gpu_seq ON gpu (seq, id);

-- GPUs by what they are: totals without a look at every row.
CREATE TABLE counted (
    model_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    standing TEXT NOT NULL,
    flags INTEGER NOT NULL,
    gpus INTEGER NOT NULL,
    PRIMARY KEY (model_id, kind, standing, flags)
) STRICT, WITHOUT ROWID;
INSERT INTO counted SELECT model_id, kind, standing, flags, count(*) FROM gpu GROUP BY 1, 2, 3, 4;
CREATE TRIGGER gpu_came AFTER INSERT ON gpu BEGIN
    INSERT INTO counted VALUES (new.model_id, new.kind, new.standing, new.flags, 1)
        ON CONFLICT (model_id, kind, standing, flags) DO UPDATE SET gpus = gpus + 1;
END;
CREATE TRIGGER gpu_moved AFTER UPDATE OF model_id, kind, standing, flags ON gpu
WHEN (old.model_id, old.kind, old.standing, old.flags) <> (new.model_id, new.kind, new.standing, new.flags) BEGIN
    UPDATE counted SET gpus = gpus - 1
        WHERE model_id = old.model_id AND kind = old.kind AND standing = old.standing AND flags = old.flags;
    INSERT INTO counted VALUES (new.model_id, new.kind, new.standing, new.flags, 1)
        ON CONFLICT (model_id, kind, standing, flags) DO UPDATE SET gpus = gpus + 1;
END;

CREATE INDEX proof_judged ON proof (judged_at);

-- How far the projector has followed the books.
CREATE TABLE followed (
    what TEXT PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A snapshot's entries, 64 to a row in the order of GPU ids, with their leaf of the snapshot's tree.
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    season INTEGER NOT NULL,
    period INTEGER NOT NULL,
    first BLOB NOT NULL CHECK (length(first) = 16),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    records BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX entries_first ON entries (season, period, first, hash);

-- What every GPU has earned in a season so far.
CREATE TABLE season_share (
    season INTEGER NOT NULL,
    gpu BLOB NOT NULL CHECK (length(gpu) = 16),
    share INTEGER NOT NULL,
    PRIMARY KEY (season, gpu)
) STRICT, WITHOUT ROWID;
