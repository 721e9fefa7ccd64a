-- People as identity providers name them. `identity` is a hash of issuer and subject; the two stand beside it
-- for people to read. No token of a provider is kept.

CREATE TABLE identity (
    identity BYTEA PRIMARY KEY CHECK (length(identity) = 32),
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    account BYTEA NOT NULL REFERENCES account (id),
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    UNIQUE (issuer, subject)
);
CREATE INDEX identity_account ON identity (account);

-- Which identity, and which session at its provider, a browser's session came from.
CREATE TABLE vouched_session (
    session BYTEA PRIMARY KEY CHECK (length(session) = 16) REFERENCES session (id) ON DELETE CASCADE,
    identity BYTEA NOT NULL REFERENCES identity (identity),
    provider_session BYTEA CHECK (length(provider_session) = 32)
);
CREATE INDEX vouched_session_identity ON vouched_session (identity);
CREATE INDEX vouched_session_provider ON vouched_session (provider_session);

-- Sign-ins and logout tokens that were used, by a hash of each, for as long as they could be shown again.
CREATE TABLE used_once (
    hash BYTEA PRIMARY KEY CHECK (length(hash) = 32),
    expires_at BIGINT NOT NULL
);
CREATE INDEX used_once_expires ON used_once (expires_at);
