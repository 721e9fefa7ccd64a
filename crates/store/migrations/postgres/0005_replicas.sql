-- What several servers on one database share.

-- Whose network this is: the public half of the key that every server has to have.
CREATE TABLE network (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    public_key BYTEA NOT NULL CHECK (length(public_key) = 32)
);

-- Who does which background job. A generation is one holder's time: what is written under an older one is
-- refused, however late it comes.
CREATE TABLE lease (
    name TEXT PRIMARY KEY,
    holder BYTEA NOT NULL CHECK (length(holder) = 16),
    generation BIGINT NOT NULL,
    until TIMESTAMPTZ NOT NULL
);

-- Servers that are up, and where the others reach them.
CREATE TABLE replica (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    address TEXT NOT NULL,
    until TIMESTAMPTZ NOT NULL
);

-- Which server has a cluster's tunnel. A newer tunnel takes the place of an older one.
CREATE TABLE tunnel (
    cluster BYTEA PRIMARY KEY REFERENCES cluster (id) ON DELETE CASCADE,
    replica BYTEA NOT NULL REFERENCES replica (id) ON DELETE CASCADE,
    opened_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX tunnel_replica ON tunnel (replica);

-- Written to find out whether a write would be durable now.
CREATE TABLE network_written (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    at TIMESTAMPTZ NOT NULL
);
