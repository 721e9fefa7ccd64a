-- Passkeys (WebAuthn): what an authenticator made for an account. `key` is the public key and what does not change,
-- `state` what does, its signature counter among it; both as the library writes them.

CREATE TABLE passkey (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    credential BLOB NOT NULL UNIQUE CHECK (length(credential) BETWEEN 16 AND 1023),
    account BLOB NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    key BLOB NOT NULL,
    state BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    used_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX passkey_account ON passkey (account);

-- Questions that were put to browsers, until they are answered once.
CREATE TABLE passkey_question (
    challenge BLOB PRIMARY KEY CHECK (length(challenge) = 16),
    asked BLOB NOT NULL,
    account BLOB REFERENCES account (id),
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX passkey_question_expires ON passkey_question (expires_at);

-- How a session began: by a one-time link, by the identity provider, by a passkey.
ALTER TABLE session ADD COLUMN how TEXT NOT NULL DEFAULT 'link' CHECK (how IN ('link', 'provider', 'passkey'));
