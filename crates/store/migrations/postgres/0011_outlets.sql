-- What people outside are told of incidents.

-- Of which incidents that are not closed an outlet was told, and as they stood then.
CREATE TABLE told (
    outlet TEXT NOT NULL CHECK (outlet IN ('webhook', 'mail')),
    incident BYTEA NOT NULL REFERENCES incident (id),
    count BIGINT NOT NULL,
    PRIMARY KEY (outlet, incident)
);

-- Messages: those that wait, those that arrived, and dead letters.
CREATE TABLE delivery (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    outlet TEXT NOT NULL CHECK (outlet IN ('webhook', 'mail')),
    event TEXT NOT NULL CHECK (event IN ('opened', 'grew', 'closed', 'many')),
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    made_at BIGINT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'dead')),
    tries BIGINT NOT NULL DEFAULT 0,
    -- In milliseconds: the next try, or when a running one counts as broken off.
    due_at BIGINT NOT NULL,
    settled_at BIGINT,
    error TEXT NOT NULL DEFAULT ''
);
CREATE INDEX delivery_due ON delivery (outlet, due_at) WHERE state = 'waiting';
CREATE INDEX delivery_made ON delivery (outlet, made_at);
CREATE INDEX delivery_dead ON delivery (made_at) WHERE state = 'dead';
