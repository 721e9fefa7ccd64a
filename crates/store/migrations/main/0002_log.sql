-- The network's log: each entry in its place, with what opens its seal. It only grows.
CREATE TABLE log_entry (
    idx INTEGER PRIMARY KEY CHECK (idx >= 0),
    kind TEXT NOT NULL,
    entry BLOB NOT NULL,
    salt BLOB NOT NULL CHECK (length(salt) = 32),
    opening TEXT NOT NULL
) STRICT;
CREATE INDEX log_entry_kind ON log_entry (kind, idx);
CREATE TRIGGER log_entry_stays BEFORE UPDATE ON log_entry BEGIN
    SELECT raise(ABORT, 'an entry of the log stays as it is');
END;
CREATE TRIGGER log_entry_is_kept BEFORE DELETE ON log_entry BEGIN
    SELECT raise(ABORT, 'an entry of the log stays where it is');
END;

-- The last checkpoint that was signed: written before anyone can see it, so that no other of its size is.
CREATE TABLE log_checkpoint (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    size INTEGER NOT NULL,
    root BLOB NOT NULL CHECK (length(root) = 32),
    note TEXT NOT NULL
) STRICT;

-- What every GPU was called, and who called it so.
CREATE TABLE label_history (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    gpu BLOB NOT NULL REFERENCES gpu (id),
    at INTEGER NOT NULL,
    key BLOB CHECK (length(key) = 16),
    actor TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL
) STRICT;
CREATE INDEX label_history_key ON label_history (key, at);
CREATE INDEX label_history_gpu ON label_history (gpu, id);
CREATE TRIGGER label_history_stays BEFORE UPDATE ON label_history BEGIN
    SELECT raise(ABORT, 'history stays as it was');
END;
CREATE TRIGGER label_history_is_kept BEFORE DELETE ON label_history BEGIN
    SELECT raise(ABORT, 'history stays as it was');
END;
