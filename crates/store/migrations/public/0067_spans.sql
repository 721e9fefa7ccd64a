-- Old entries of snapshots, packed: those of 24 periods, as rules::spans has them, 64 GPUs to a row in the order of ids; and what
-- their shares follow from. A span that is in the second table is read here and not in `entries`.
CREATE TABLE entries_packed (
    id INTEGER PRIMARY KEY,
    season INTEGER NOT NULL,
    span INTEGER NOT NULL,
    first BLOB NOT NULL CHECK (length(first) = 16),
    gpus BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX entries_packed_first ON entries_packed (season, span, first);
CREATE TABLE entries_span (
    season INTEGER NOT NULL,
    span INTEGER NOT NULL,
    sums BLOB NOT NULL,
    PRIMARY KEY (season, span)
) STRICT, WITHOUT ROWID;
