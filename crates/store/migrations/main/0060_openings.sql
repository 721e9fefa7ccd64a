-- When everybody comes back at once, what each machine leaves behind is one more piece of a row here, not a row of its
-- own in every table: pieces are in the order in which they came, and no page is written twice for two machines.

-- Lanes of machines that opened an epoch. `lanes` holds one after the other: crates/store/src/sqlite/openings.rs says how.
CREATE TABLE opened_lanes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    epoch INTEGER NOT NULL,
    opened_at INTEGER NOT NULL,
    lanes BLOB NOT NULL
) STRICT;
CREATE INDEX opened_lanes_epoch ON opened_lanes (epoch);

-- The chains that they signed.
CREATE TABLE opened_chains (
    id INTEGER PRIMARY KEY,
    opened_at INTEGER NOT NULL,
    chains BLOB NOT NULL
) STRICT;
CREATE INDEX opened_chains_at ON opened_chains (opened_at);

-- Sequence numbers of requests that were taken and do not stand with their keys yet: of each its key and the number,
-- in 16 and 8 bytes. They are looked at together with what stands there.
CREATE TABLE taken_numbers (
    id INTEGER PRIMARY KEY,
    numbers BLOB NOT NULL
) STRICT;
