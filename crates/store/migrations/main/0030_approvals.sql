-- Dangerous acts that somebody asked for: what exactly, who decided, and whether it was done. `digest` is of the action
-- and of what it is about, in the guard's words; `form` is what a browser sent, so that it can be sent again.

CREATE TABLE approval (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    action TEXT NOT NULL,
    what TEXT NOT NULL,
    approver TEXT NOT NULL CHECK (approver IN ('oneself', 'another', 'alone')),
    asked_by BLOB NOT NULL REFERENCES account (id),
    key BLOB CHECK (length(key) = 16),
    path TEXT NOT NULL DEFAULT '',
    form TEXT NOT NULL DEFAULT '',
    asked_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    decided_by BLOB REFERENCES account (id),
    decided_at INTEGER,
    approved INTEGER CHECK (approved IN (0, 1)),
    ready_at INTEGER,
    used_at INTEGER,
    CHECK ((decided_by IS NULL) = (approved IS NULL) AND (decided_at IS NULL) = (approved IS NULL)),
    CHECK (used_at IS NULL OR (approved = 1 AND ready_at IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX approval_asked ON approval (asked_by, digest);
CREATE INDEX approval_asked_at ON approval (asked_at, id);

-- When somebody last signed in: sessions are swept, and this stays.
ALTER TABLE account ADD COLUMN here_at INTEGER;
UPDATE account SET here_at = (SELECT max(seen_at) FROM session WHERE session.account = account.id);
