-- A snapshot's tree is BLAKE3's own over all groups: what is kept of it are the nodes over 64 groups each, 48 bytes with the
-- id of their first entry, as rules::snapshot::Run has them.
ALTER TABLE snapshot ADD COLUMN runs BYTEA NOT NULL DEFAULT '';
ALTER TABLE entries DROP COLUMN hash;
CREATE UNIQUE INDEX entries_first ON entries (season, period, first);
ALTER TABLE gangline_public.snapshot ADD COLUMN runs BYTEA NOT NULL DEFAULT '';
ALTER TABLE gangline_public.entries DROP COLUMN hash;
CREATE UNIQUE INDEX entries_first ON gangline_public.entries (season, period, first);
