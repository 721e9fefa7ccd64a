-- Which server opened a lane last: that one knows it, and looks for those of others alone.
ALTER TABLE beat_lane ADD COLUMN opened_by BYTEA;
