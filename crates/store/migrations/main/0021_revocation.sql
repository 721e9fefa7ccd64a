-- What has ended and must be felt by whatever was opened under it, on every server of these books. Triggers write
-- it, so that no statement that ends something can forget it. Rows are kept for a day.

CREATE TABLE revocation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('key', 'session', 'account', 'machine')),
    subject BLOB NOT NULL CHECK (length(subject) = 16)
) STRICT;
CREATE INDEX revocation_at ON revocation (at);

CREATE TRIGGER key_is_revoked AFTER UPDATE OF revoked_at ON key
WHEN OLD.revoked_at IS NULL AND NEW.revoked_at IS NOT NULL BEGIN
    INSERT INTO revocation (at, kind, subject) VALUES (unixepoch(), 'key', NEW.id);
END;
CREATE TRIGGER session_is_over AFTER DELETE ON session BEGIN
    INSERT INTO revocation (at, kind, subject) VALUES (unixepoch(), 'session', OLD.id);
END;
CREATE TRIGGER account_is_another AFTER UPDATE OF role ON account WHEN OLD.role <> NEW.role BEGIN
    INSERT INTO revocation (at, kind, subject) VALUES (unixepoch(), 'account', NEW.id);
END;
CREATE TRIGGER machine_has_left AFTER UPDATE OF left_at ON machine
WHEN OLD.left_at IS NULL AND NEW.left_at IS NOT NULL BEGIN
    INSERT INTO revocation (at, kind, subject) VALUES (unixepoch(), 'machine', NEW.id);
END;
