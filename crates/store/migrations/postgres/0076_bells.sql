-- Bells of the hourly epochs: what each beacon is made of.
CREATE TABLE bell (
    hour BIGINT PRIMARY KEY,
    millis BIGINT NOT NULL,
    size BIGINT NOT NULL,
    root BYTEA NOT NULL CHECK (length(root) = 32),
    salt BYTEA NOT NULL CHECK (length(salt) = 32)
);
