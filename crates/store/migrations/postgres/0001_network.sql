-- Ids are 16-byte blobs, times are seconds since 1970 UTC unless a name says otherwise, words are the
-- snake_case names of the Rust types, and JSON columns hold types of the wire room as they travelled.

CREATE TABLE account (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('operator', 'supplier', 'renter')),
    created_at BIGINT NOT NULL
);

CREATE TABLE link (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    secret BYTEA NOT NULL UNIQUE CHECK (length(secret) = 32),
    account BYTEA NOT NULL REFERENCES account (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);

CREATE TABLE session (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    secret BYTEA NOT NULL UNIQUE CHECK (length(secret) = 32),
    account BYTEA NOT NULL REFERENCES account (id),
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE enrolment (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    key BYTEA NOT NULL CHECK (length(key) = 16),
    public_key BYTEA NOT NULL CHECK (length(public_key) = 32),
    kind TEXT NOT NULL CHECK (kind IN ('machine', 'command_line')),
    host TEXT NOT NULL,
    summary TEXT NOT NULL,
    code TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied')),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX enrolment_code ON enrolment (code);

CREATE TABLE machine (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    account BYTEA NOT NULL REFERENCES account (id),
    inventory TEXT,
    paused BOOLEAN NOT NULL DEFAULT false,
    joined_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL DEFAULT 0,
    left_at BIGINT
);
CREATE INDEX machine_account ON machine (account);

CREATE TABLE key (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    public_key BYTEA NOT NULL CHECK (length(public_key) = 32),
    kind TEXT NOT NULL CHECK (kind IN ('machine', 'command_line')),
    account BYTEA NOT NULL REFERENCES account (id),
    machine BYTEA REFERENCES machine (id),
    host TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT,
    sequences BYTEA NOT NULL DEFAULT '',
    CHECK ((kind = 'machine') = (machine IS NOT NULL))
);
CREATE INDEX key_account ON key (account);

CREATE TABLE gpu (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    machine BYTEA NOT NULL REFERENCES machine (id),
    slot BYTEA NOT NULL CHECK (length(slot) = 32),
    claim TEXT NOT NULL,
    label TEXT NOT NULL DEFAULT '',
    present BOOLEAN NOT NULL DEFAULT true,
    standing TEXT NOT NULL DEFAULT 'unproven',
    reason TEXT NOT NULL DEFAULT 'No proof has been judged yet.',
    matrix_mmacs BIGINT NOT NULL DEFAULT 0,
    memory_bytes BIGINT NOT NULL DEFAULT 0,
    proof BYTEA,
    round BIGINT NOT NULL DEFAULT 0,
    registered_at BIGINT NOT NULL,
    beat_at BIGINT NOT NULL DEFAULT 0,
    proof_at BIGINT NOT NULL DEFAULT 0,
    offer TEXT,
    UNIQUE (machine, slot)
);

CREATE TABLE uptime (
    gpu BYTEA NOT NULL REFERENCES gpu (id),
    hour BIGINT NOT NULL,
    bits BIGINT NOT NULL,
    late BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (gpu, hour)
);
CREATE INDEX uptime_hour ON uptime (hour);

CREATE TABLE proof (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    gpu BYTEA NOT NULL REFERENCES gpu (id),
    round BIGINT NOT NULL,
    challenge TEXT NOT NULL,
    began_at_millis BIGINT NOT NULL,
    deadline_at_millis BIGINT NOT NULL,
    commitment TEXT,
    nonce BYTEA,
    elapsed_millis BIGINT,
    opening TEXT,
    accepted BOOLEAN,
    outcome TEXT,
    finding TEXT,
    judged_at BIGINT
);
CREATE INDEX proof_gpu ON proof (gpu, began_at_millis);
CREATE INDEX proof_open ON proof (judged_at, deadline_at_millis);

CREATE TABLE season (
    number BIGINT PRIMARY KEY,
    starts BIGINT NOT NULL,
    ends BIGINT NOT NULL,
    period_minutes BIGINT NOT NULL,
    period_budget BIGINT NOT NULL
);

CREATE TABLE snapshot (
    season BIGINT NOT NULL REFERENCES season (number),
    period BIGINT NOT NULL,
    head TEXT NOT NULL,
    PRIMARY KEY (season, period)
);

CREATE TABLE entry (
    season BIGINT NOT NULL,
    period BIGINT NOT NULL,
    gpu BYTEA NOT NULL,
    share BIGINT NOT NULL,
    entry TEXT NOT NULL,
    PRIMARY KEY (season, period, gpu),
    FOREIGN KEY (season, period) REFERENCES snapshot (season, period)
);
CREATE INDEX entry_gpu ON entry (gpu, season, period);

CREATE TABLE cluster (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    account BYTEA NOT NULL REFERENCES account (id),
    machine BYTEA NOT NULL REFERENCES machine (id),
    gpu BYTEA NOT NULL REFERENCES gpu (id),
    state TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    evidence TEXT,
    token TEXT,
    price_per_hour BIGINT NOT NULL,
    memory_bytes BIGINT NOT NULL,
    cpus_millis BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    until BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    because TEXT,
    receipt TEXT
);
CREATE INDEX cluster_account ON cluster (account, created_at);
-- One GPU runs one cluster: two renters who ask at the same moment cannot both get it.
CREATE UNIQUE INDEX cluster_gpu ON cluster (gpu) WHERE state IN ('requested', 'starting', 'running', 'releasing');

CREATE TABLE audit (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL
);

CREATE TABLE refusal (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    request TEXT NOT NULL,
    address TEXT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX refusal_at ON refusal (at);
