-- Bells of the hourly epochs: what each beacon is made of.
CREATE TABLE bell (
    hour INTEGER PRIMARY KEY,
    millis INTEGER NOT NULL,
    size INTEGER NOT NULL,
    root BLOB NOT NULL CHECK (length(root) = 32),
    salt BLOB NOT NULL CHECK (length(salt) = 32)
) STRICT;
