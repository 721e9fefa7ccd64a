-- Dangerous acts that somebody asked for: what exactly, who decided, and whether it was done. `digest` is of the action
-- and of what it is about, in the guard's words; `form` is what a browser sent, so that it can be sent again.

CREATE TABLE approval (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    digest BYTEA NOT NULL CHECK (length(digest) = 32),
    action TEXT NOT NULL,
    what TEXT NOT NULL,
    approver TEXT NOT NULL CHECK (approver IN ('oneself', 'another', 'alone')),
    asked_by BYTEA NOT NULL REFERENCES account (id),
    key BYTEA CHECK (length(key) = 16),
    path TEXT NOT NULL DEFAULT '',
    form TEXT NOT NULL DEFAULT '',
    asked_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    decided_by BYTEA REFERENCES account (id),
    decided_at BIGINT,
    approved BOOLEAN,
    ready_at BIGINT,
    used_at BIGINT,
    CHECK ((decided_by IS NULL) = (approved IS NULL) AND (decided_at IS NULL) = (approved IS NULL)),
    CHECK (used_at IS NULL OR (approved AND ready_at IS NOT NULL))
);
CREATE INDEX approval_asked ON approval (asked_by, digest);
CREATE INDEX approval_asked_at ON approval (asked_at, id);

-- When somebody last signed in: sessions are swept, and this stays.
ALTER TABLE account ADD COLUMN here_at BIGINT;
UPDATE account SET here_at = (SELECT max(seen_at) FROM session WHERE session.account = account.id);
