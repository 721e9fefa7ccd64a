-- Old entries of snapshots, packed: those of 24 periods, as rules::spans has them, 64 GPUs to a row in the order of ids; and what
-- their shares follow from. A span that is in the second table is read here and not in `entries`.
CREATE TABLE entries_packed (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    season BIGINT NOT NULL,
    span BIGINT NOT NULL,
    first BYTEA NOT NULL CHECK (length(first) = 16),
    gpus BYTEA NOT NULL
);
CREATE UNIQUE INDEX entries_packed_first ON entries_packed (season, span, first);
CREATE TABLE entries_span (
    season BIGINT NOT NULL,
    span BIGINT NOT NULL,
    sums BYTEA NOT NULL,
    PRIMARY KEY (season, span)
);
CREATE TABLE gangline_public.entries_packed (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    season BIGINT NOT NULL,
    span BIGINT NOT NULL,
    first BYTEA NOT NULL CHECK (length(first) = 16),
    gpus BYTEA NOT NULL
);
CREATE UNIQUE INDEX entries_packed_first ON gangline_public.entries_packed (season, span, first);
CREATE TABLE gangline_public.entries_span (
    season BIGINT NOT NULL,
    span BIGINT NOT NULL,
    sums BYTEA NOT NULL,
    PRIMARY KEY (season, span)
);
