-- Who has left is counted without a look at everybody.
CREATE INDEX machine_left ON machine (left_at, seen_at) WHERE left_at IS NOT NULL;
