-- Machines that have not left, by account: consoles tell how many without a look at everybody.
CREATE TABLE machines_here (
    account BLOB PRIMARY KEY CHECK (length(account) = 16),
    machines INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO machines_here SELECT account, count(*) FROM machine WHERE left_at IS NULL GROUP BY account;
CREATE TRIGGER machine_came AFTER INSERT ON machine WHEN new.left_at IS NULL BEGIN
    INSERT INTO machines_here VALUES (new.account, 1) ON CONFLICT (account) DO UPDATE SET machines = machines + 1;
END;
CREATE TRIGGER machine_went AFTER UPDATE OF left_at ON machine WHEN (old.left_at IS NULL) <> (new.left_at IS NULL) BEGIN
    UPDATE machines_here SET machines = machines + (new.left_at IS NULL) - (old.left_at IS NULL)
        WHERE account = new.account;
END;

-- What consoles list stands in its order, so that a page of it is all that is read.
CREATE INDEX account_created ON account (created_at DESC);
CREATE INDEX key_created ON key (created_at DESC);
CREATE INDEX cluster_created ON cluster (created_at DESC);
DROP INDEX machine_account;
CREATE INDEX machine_account ON machine (account, joined_at);
DROP INDEX key_account;
CREATE INDEX key_account ON key (account, created_at DESC);
CREATE INDEX session_account ON session (account, seen_at);
CREATE INDEX cluster_here ON cluster (account) WHERE state IN ('requested', 'starting', 'running', 'releasing');
-- Who missed a bell is asked of each GPU; who is operator, and what a session named, of few among many.
CREATE INDEX cluster_used ON cluster (gpu, ended_at);
CREATE INDEX account_operator ON account (created_at) WHERE role = 'operator';
CREATE INDEX label_history_session ON label_history (session, at) WHERE session IS NOT NULL;
-- A day's refusals are added up from the index alone.
DROP INDEX refusal_at;
CREATE INDEX refusal_at ON refusal (at, count);
