-- Which server opened a lane, where several have these books in PostgreSQL: none here.
ALTER TABLE beat_lane ADD COLUMN opened_by BLOB;
