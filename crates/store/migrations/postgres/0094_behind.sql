-- By how many seconds the books are behind the beats that a server took: who is silent is judged as of the oldest.
ALTER TABLE replica ADD COLUMN behind BIGINT NOT NULL DEFAULT 0;
