-- What was noticed, what is frozen, and refusals and permitted acts as they are searched for.

CREATE TABLE incident (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('notice', 'warning', 'urgent')),
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'acknowledged', 'closed')),
    opened_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    key BLOB CHECK (length(key) = 16),
    account BLOB CHECK (length(account) = 16),
    block TEXT NOT NULL DEFAULT '',
    action TEXT NOT NULL DEFAULT '',
    resource TEXT NOT NULL DEFAULT '',
    seen REAL NOT NULL,
    usual REAL NOT NULL,
    changed_at INTEGER,
    changed_by TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
-- A repeat is folded into the incident that is not closed yet.
CREATE UNIQUE INDEX incident_open ON incident (what, subject) WHERE state <> 'closed';
CREATE INDEX incident_last ON incident (last_at, id);

CREATE TABLE freeze (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    target TEXT NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER,
    made_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    incident BLOB CHECK (length(incident) = 16),
    lifted_at INTEGER,
    lifted_by TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
-- One freeze a target at a time: two rules, or two servers, that freeze at the same moment freeze once.
CREATE UNIQUE INDEX freeze_target ON freeze (target) WHERE lifted_at IS NULL;
CREATE INDEX freeze_since ON freeze (since, id);

ALTER TABLE refusal ADD COLUMN key BLOB;
ALTER TABLE refusal ADD COLUMN account BLOB;
ALTER TABLE refusal ADD COLUMN count INTEGER NOT NULL DEFAULT 1;
CREATE INDEX refusal_key ON refusal (key, id);
CREATE INDEX refusal_account ON refusal (account, id);

ALTER TABLE audit ADD COLUMN key BLOB;
ALTER TABLE audit ADD COLUMN account BLOB;
ALTER TABLE audit ADD COLUMN session BLOB;
CREATE INDEX audit_key ON audit (key, id);
CREATE INDEX audit_account ON audit (account, id);
CREATE INDEX audit_at ON audit (at);

-- Who called a GPU so, in a browser too.
ALTER TABLE label_history ADD COLUMN account BLOB;
ALTER TABLE label_history ADD COLUMN session BLOB;
CREATE INDEX label_history_account ON label_history (account, at);
