-- A key may take the place of another. Both are of one line, which begins with a key that a person approved and
-- of which at most two are alive. `line` is that first key (none: this is it), `follows` the key before this one.
-- `ends_at` is when a key ends by itself: because its successor was in use for a while, or because nobody used
-- it. Whoever revokes one revokes its line.

ALTER TABLE key ADD COLUMN line BYTEA CHECK (length(line) = 16);
ALTER TABLE key ADD COLUMN follows BYTEA CHECK (length(follows) = 16);
ALTER TABLE key ADD COLUMN ends_at BIGINT;
CREATE INDEX key_line ON key (line) WHERE line IS NOT NULL;
CREATE INDEX key_machine ON key (machine) WHERE machine IS NOT NULL;
