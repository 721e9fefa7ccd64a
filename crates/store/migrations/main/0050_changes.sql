-- GPUs in the order in which something public about them changed last. Triggers keep it, so that no write can
-- forget to; whoever follows keeps its own place. Beats are not in it: they change every GPU every minute.
CREATE TABLE gpu_changed (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    gpu BLOB NOT NULL UNIQUE CHECK (length(gpu) = 16)
) STRICT;
INSERT INTO gpu_changed (gpu) SELECT id FROM gpu ORDER BY id;

CREATE TRIGGER gpu_made AFTER INSERT ON gpu BEGIN
    INSERT INTO gpu_changed (gpu) VALUES (new.id);
END;
CREATE TRIGGER gpu_rewritten AFTER UPDATE OF claim, label, present, standing, reason, matrix_mmacs, memory_bytes, proof_at, offer ON gpu
WHEN (old.claim, old.label, old.present, old.standing, old.reason, old.matrix_mmacs, old.memory_bytes, old.proof_at) <> (new.claim, new.label, new.present, new.standing, new.reason, new.matrix_mmacs, new.memory_bytes, new.proof_at) OR old.offer IS NOT new.offer BEGIN
    DELETE FROM gpu_changed WHERE gpu = new.id;
    INSERT INTO gpu_changed (gpu) VALUES (new.id);
END;
CREATE TRIGGER machine_rewritten AFTER UPDATE OF paused, left_at ON machine
WHEN old.paused <> new.paused OR old.left_at IS NOT new.left_at BEGIN
    DELETE FROM gpu_changed WHERE gpu IN (SELECT id FROM gpu WHERE machine = new.id);
    INSERT INTO gpu_changed (gpu) SELECT id FROM gpu WHERE machine = new.id;
END;
CREATE TRIGGER cluster_made AFTER INSERT ON cluster BEGIN
    DELETE FROM gpu_changed WHERE gpu = new.gpu;
    INSERT INTO gpu_changed (gpu) VALUES (new.gpu);
END;
CREATE TRIGGER cluster_moved AFTER UPDATE OF state ON cluster WHEN old.state <> new.state BEGIN
    DELETE FROM gpu_changed WHERE gpu = new.gpu;
    INSERT INTO gpu_changed (gpu) VALUES (new.gpu);
END;

-- Who was heard of lately is found without a look at everybody.
CREATE INDEX machine_seen ON machine (seen_at);
CREATE INDEX gpu_beat ON gpu (beat_at);

-- A machine that a load generator made up. It has keys and beats like any other, and is called what it is
-- wherever it shows.
ALTER TABLE machine ADD COLUMN simulated INTEGER NOT NULL DEFAULT 0 CHECK (simulated IN (0, 1));
CREATE INDEX machine_simulated ON machine (simulated) WHERE simulated = 1;

-- A snapshot's entries, 64 to a row in the order of GPU ids: records as rules::groups has them, and their leaf
-- of the snapshot's tree.
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    season INTEGER NOT NULL,
    period INTEGER NOT NULL,
    first BLOB NOT NULL CHECK (length(first) = 16),
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    records BLOB NOT NULL,
    FOREIGN KEY (season, period) REFERENCES snapshot (season, period)
) STRICT;
CREATE UNIQUE INDEX entries_first ON entries (season, period, first, hash);

-- What every GPU has earned in a season so far.
CREATE TABLE season_share (
    season INTEGER NOT NULL,
    gpu BLOB NOT NULL CHECK (length(gpu) = 16),
    share INTEGER NOT NULL,
    PRIMARY KEY (season, gpu)
) STRICT, WITHOUT ROWID;
