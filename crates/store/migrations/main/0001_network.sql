-- Ids are 16-byte blobs, times are seconds since 1970 UTC unless a name says otherwise, words are the
-- snake_case names of the Rust types, and JSON columns hold types of the wire room as they travelled.

CREATE TABLE account (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('operator', 'supplier', 'renter')),
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE link (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    secret BLOB NOT NULL UNIQUE CHECK (length(secret) = 32),
    account BLOB NOT NULL REFERENCES account (id),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE session (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    secret BLOB NOT NULL UNIQUE CHECK (length(secret) = 32),
    account BLOB NOT NULL REFERENCES account (id),
    created_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE enrolment (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    key BLOB NOT NULL CHECK (length(key) = 16),
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    kind TEXT NOT NULL CHECK (kind IN ('machine', 'command_line')),
    host TEXT NOT NULL,
    summary TEXT NOT NULL,
    code TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'approved', 'denied')),
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX enrolment_code ON enrolment (code);

CREATE TABLE machine (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    account BLOB NOT NULL REFERENCES account (id),
    inventory TEXT,
    paused INTEGER NOT NULL DEFAULT 0,
    joined_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL DEFAULT 0,
    left_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX machine_account ON machine (account);

CREATE TABLE key (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    kind TEXT NOT NULL CHECK (kind IN ('machine', 'command_line')),
    account BLOB NOT NULL REFERENCES account (id),
    machine BLOB REFERENCES machine (id),
    host TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER,
    sequences BLOB NOT NULL DEFAULT x'',
    CHECK ((kind = 'machine') = (machine IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX key_account ON key (account);

CREATE TABLE gpu (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    machine BLOB NOT NULL REFERENCES machine (id),
    slot BLOB NOT NULL CHECK (length(slot) = 32),
    claim TEXT NOT NULL,
    label TEXT NOT NULL DEFAULT '',
    present INTEGER NOT NULL DEFAULT 1,
    standing TEXT NOT NULL DEFAULT 'unproven',
    reason TEXT NOT NULL DEFAULT 'No proof has been judged yet.',
    matrix_mmacs INTEGER NOT NULL DEFAULT 0,
    memory_bytes INTEGER NOT NULL DEFAULT 0,
    proof BLOB,
    round INTEGER NOT NULL DEFAULT 0,
    registered_at INTEGER NOT NULL,
    beat_at INTEGER NOT NULL DEFAULT 0,
    proof_at INTEGER NOT NULL DEFAULT 0,
    offer TEXT,
    UNIQUE (machine, slot)
) STRICT, WITHOUT ROWID;

CREATE TABLE uptime (
    gpu BLOB NOT NULL REFERENCES gpu (id),
    hour INTEGER NOT NULL,
    bits INTEGER NOT NULL,
    late INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (gpu, hour)
) STRICT, WITHOUT ROWID;
CREATE INDEX uptime_hour ON uptime (hour);

CREATE TABLE proof (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    gpu BLOB NOT NULL REFERENCES gpu (id),
    round INTEGER NOT NULL,
    challenge TEXT NOT NULL,
    began_at_millis INTEGER NOT NULL,
    deadline_at_millis INTEGER NOT NULL,
    commitment TEXT,
    nonce BLOB,
    elapsed_millis INTEGER,
    opening TEXT,
    accepted INTEGER,
    outcome TEXT,
    finding TEXT,
    judged_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX proof_gpu ON proof (gpu, began_at_millis);
CREATE INDEX proof_open ON proof (judged_at, deadline_at_millis);

CREATE TABLE season (
    number INTEGER PRIMARY KEY,
    starts INTEGER NOT NULL,
    ends INTEGER NOT NULL,
    period_minutes INTEGER NOT NULL,
    period_budget INTEGER NOT NULL
) STRICT;

CREATE TABLE snapshot (
    season INTEGER NOT NULL REFERENCES season (number),
    period INTEGER NOT NULL,
    head TEXT NOT NULL,
    PRIMARY KEY (season, period)
) STRICT, WITHOUT ROWID;

CREATE TABLE entry (
    season INTEGER NOT NULL,
    period INTEGER NOT NULL,
    gpu BLOB NOT NULL,
    share INTEGER NOT NULL,
    entry TEXT NOT NULL,
    PRIMARY KEY (season, period, gpu),
    FOREIGN KEY (season, period) REFERENCES snapshot (season, period)
) STRICT, WITHOUT ROWID;
CREATE INDEX entry_gpu ON entry (gpu, season, period);

CREATE TABLE cluster (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    account BLOB NOT NULL REFERENCES account (id),
    machine BLOB NOT NULL REFERENCES machine (id),
    gpu BLOB NOT NULL REFERENCES gpu (id),
    state TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    evidence TEXT,
    token TEXT,
    price_per_hour INTEGER NOT NULL,
    memory_bytes INTEGER NOT NULL,
    cpus_millis INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    until INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    because TEXT,
    receipt TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX cluster_account ON cluster (account, created_at);
-- One GPU runs one cluster: two renters who ask at the same moment cannot both get it.
CREATE UNIQUE INDEX cluster_gpu ON cluster (gpu) WHERE state IN ('requested', 'starting', 'running', 'releasing');

CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT;

CREATE TABLE refusal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    request TEXT NOT NULL,
    address TEXT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL
) STRICT;
CREATE INDEX refusal_at ON refusal (at);
