-- Passwords, for networks whose origin browsers have no passkeys for: argon2id, as PHC string.
CREATE TABLE password (
    account BLOB PRIMARY KEY REFERENCES account (id),
    login TEXT NOT NULL UNIQUE,
    hash TEXT NOT NULL,
    set_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A session may begin by one: the column with its check is replaced.
ALTER TABLE session ADD COLUMN began_by TEXT NOT NULL DEFAULT 'link' CHECK (began_by IN ('link', 'provider', 'passkey', 'password'));
UPDATE session SET began_by = how;
ALTER TABLE session DROP COLUMN how;
ALTER TABLE session RENAME COLUMN began_by TO how;
