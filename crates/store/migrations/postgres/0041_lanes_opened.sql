-- Lanes that were opened lately, at whichever server, are found without a look at all of them.
CREATE INDEX beat_lane_opened ON beat_lane (opened_at);
