-- Machines that have not left, by account: consoles tell how many without a look at everybody.
CREATE TABLE machines_here (
    account BYTEA PRIMARY KEY CHECK (length(account) = 16),
    machines BIGINT NOT NULL
);
INSERT INTO machines_here SELECT account, count(*) FROM machine WHERE left_at IS NULL GROUP BY account;
CREATE FUNCTION machines_came() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO machines_here AS h (account, machines)
        SELECT account, count(*) FROM made WHERE left_at IS NULL GROUP BY account ORDER BY account
        ON CONFLICT (account) DO UPDATE SET machines = h.machines + excluded.machines;
    RETURN NULL;
END
$$;
CREATE FUNCTION machine_went() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE machines_here SET machines = machines + (new.left_at IS NULL)::INT - (old.left_at IS NULL)::INT
        WHERE account = new.account;
    RETURN NULL;
END
$$;
CREATE TRIGGER machine_came AFTER INSERT ON machine REFERENCING NEW TABLE AS made
    FOR EACH STATEMENT EXECUTE FUNCTION machines_came();
CREATE TRIGGER machine_went AFTER UPDATE ON machine FOR EACH ROW
    WHEN ((old.left_at IS NULL) <> (new.left_at IS NULL)) EXECUTE FUNCTION machine_went();

-- What consoles list stands in its order, so that a page of it is all that is read.
CREATE INDEX account_created ON account (created_at DESC, id);
CREATE INDEX key_created ON key (created_at DESC, id);
CREATE INDEX cluster_created ON cluster (created_at DESC, id);
DROP INDEX machine_account;
CREATE INDEX machine_account ON machine (account, joined_at, id);
DROP INDEX key_account;
CREATE INDEX key_account ON key (account, created_at DESC, id);
CREATE INDEX session_account ON session (account, seen_at);
CREATE INDEX cluster_here ON cluster (account) WHERE state IN ('requested', 'starting', 'running', 'releasing');
-- Who missed a bell is asked of each GPU; who is operator, and what a session named, of few among many.
CREATE INDEX cluster_used ON cluster (gpu, ended_at);
CREATE INDEX account_operator ON account (created_at) WHERE role = 'operator';
CREATE INDEX label_history_session ON label_history (session, at) WHERE session IS NOT NULL;
-- A day's refusals are added up from the index alone.
DROP INDEX refusal_at;
CREATE INDEX refusal_at ON refusal (at, count);
