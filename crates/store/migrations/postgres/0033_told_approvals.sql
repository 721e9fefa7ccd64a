-- Which incident tells people that an act waits for another operator, or for the delay of the only one.
ALTER TABLE approval ADD COLUMN incident BYTEA CHECK (length(incident) = 16);
