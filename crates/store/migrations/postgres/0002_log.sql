-- The network's log: each entry in its place, with what opens its seal. It only grows.
CREATE TABLE log_entry (
    idx BIGINT PRIMARY KEY CHECK (idx >= 0),
    kind TEXT NOT NULL,
    entry BYTEA NOT NULL,
    salt BYTEA NOT NULL CHECK (length(salt) = 32),
    opening TEXT NOT NULL
);
CREATE INDEX log_entry_kind ON log_entry (kind, idx);
CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0];
END
$$;
CREATE TRIGGER log_entry_stays BEFORE UPDATE ON log_entry FOR EACH ROW EXECUTE FUNCTION stays('an entry of the log stays as it is');
CREATE TRIGGER log_entry_is_kept BEFORE DELETE ON log_entry FOR EACH ROW EXECUTE FUNCTION stays('an entry of the log stays where it is');

-- The last checkpoint that was signed: written before anyone can see it, so that no other of its size is.
CREATE TABLE log_checkpoint (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    size BIGINT NOT NULL,
    root BYTEA NOT NULL CHECK (length(root) = 32),
    note TEXT NOT NULL
);

-- What every GPU was called, and who called it so.
CREATE TABLE label_history (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gpu BYTEA NOT NULL REFERENCES gpu (id),
    at BIGINT NOT NULL,
    key BYTEA CHECK (length(key) = 16),
    actor TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL
);
CREATE INDEX label_history_key ON label_history (key, at);
CREATE INDEX label_history_gpu ON label_history (gpu, id);
CREATE TRIGGER label_history_stays BEFORE UPDATE ON label_history FOR EACH ROW EXECUTE FUNCTION stays('history stays as it was');
CREATE TRIGGER label_history_is_kept BEFORE DELETE ON label_history FOR EACH ROW EXECUTE FUNCTION stays('history stays as it was');
