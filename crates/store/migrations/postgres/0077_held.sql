-- Shares of suspect GPUs are held until they are proven again.
ALTER TABLE season_share ADD COLUMN held BIGINT NOT NULL DEFAULT 0 CHECK (held >= 0);
CREATE INDEX season_share_held ON season_share (gpu) WHERE held > 0;
ALTER TABLE gangline_public.season_share ADD COLUMN held BIGINT NOT NULL DEFAULT 0 CHECK (held >= 0);
CREATE INDEX season_share_held ON gangline_public.season_share (gpu) WHERE held > 0;
