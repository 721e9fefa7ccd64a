-- Passwords, for networks whose origin browsers have no passkeys for: argon2id, as PHC string.
CREATE TABLE password (
    account BYTEA PRIMARY KEY REFERENCES account (id),
    login TEXT NOT NULL UNIQUE,
    hash TEXT NOT NULL,
    set_at BIGINT NOT NULL
);

-- A session may begin by one.
ALTER TABLE session DROP CONSTRAINT session_how_check;
ALTER TABLE session ADD CONSTRAINT session_how_check CHECK (how IN ('link', 'provider', 'passkey', 'password'));
