-- Passkeys (WebAuthn): what an authenticator made for an account. `key` is the public key and what does not change,
-- `state` what does, its signature counter among it; both as the library writes them.

CREATE TABLE passkey (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    credential BYTEA NOT NULL UNIQUE CHECK (length(credential) BETWEEN 16 AND 1023),
    account BYTEA NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    key BYTEA NOT NULL,
    state BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT
);
CREATE INDEX passkey_account ON passkey (account);

-- Questions that were put to browsers, until they are answered once.
CREATE TABLE passkey_question (
    challenge BYTEA PRIMARY KEY CHECK (length(challenge) = 16),
    asked BYTEA NOT NULL,
    account BYTEA REFERENCES account (id),
    expires_at BIGINT NOT NULL
);
CREATE INDEX passkey_question_expires ON passkey_question (expires_at);

-- How a session began: by a one-time link, by the identity provider, by a passkey.
ALTER TABLE session ADD COLUMN how TEXT NOT NULL DEFAULT 'link' CHECK (how IN ('link', 'provider', 'passkey'));
