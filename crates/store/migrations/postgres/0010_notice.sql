-- What was noticed, what is frozen, and refusals and permitted acts as they are searched for.

CREATE TABLE incident (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    severity TEXT NOT NULL CHECK (severity IN ('notice', 'warning', 'urgent')),
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'acknowledged', 'closed')),
    opened_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    count BIGINT NOT NULL,
    key BYTEA CHECK (length(key) = 16),
    account BYTEA CHECK (length(account) = 16),
    block TEXT NOT NULL DEFAULT '',
    action TEXT NOT NULL DEFAULT '',
    resource TEXT NOT NULL DEFAULT '',
    seen DOUBLE PRECISION NOT NULL,
    usual DOUBLE PRECISION NOT NULL,
    changed_at BIGINT,
    changed_by TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT ''
);
-- A repeat is folded into the incident that is not closed yet.
CREATE UNIQUE INDEX incident_open ON incident (what, subject) WHERE state <> 'closed';
CREATE INDEX incident_last ON incident (last_at, id);

-- FREEZE is a word of PostgreSQL's own.
CREATE TABLE frozen (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    target TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    made_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    incident BYTEA CHECK (length(incident) = 16),
    lifted_at BIGINT,
    lifted_by TEXT NOT NULL DEFAULT ''
);
-- One freeze a target at a time: two rules, or two servers, that freeze at the same moment freeze once.
CREATE UNIQUE INDEX frozen_target ON frozen (target) WHERE lifted_at IS NULL;
CREATE INDEX frozen_since ON frozen (since, id);

ALTER TABLE refusal ADD COLUMN key BYTEA;
ALTER TABLE refusal ADD COLUMN account BYTEA;
ALTER TABLE refusal ADD COLUMN count BIGINT NOT NULL DEFAULT 1;
CREATE INDEX refusal_key ON refusal (key, id);
CREATE INDEX refusal_account ON refusal (account, id);

ALTER TABLE audit ADD COLUMN key BYTEA;
ALTER TABLE audit ADD COLUMN account BYTEA;
ALTER TABLE audit ADD COLUMN session BYTEA;
CREATE INDEX audit_key ON audit (key, id);
CREATE INDEX audit_account ON audit (account, id);
CREATE INDEX audit_at ON audit (at);

-- Who called a GPU so, in a browser too.
ALTER TABLE label_history ADD COLUMN account BYTEA;
ALTER TABLE label_history ADD COLUMN session BYTEA;
CREATE INDEX label_history_account ON label_history (account, at);
