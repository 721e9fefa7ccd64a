-- When everybody opens an epoch at once, each index in no order of its own is one more page for each of them. Lanes of
-- keys that ended and lanes of old epochs are looked for rarely enough to look at all.
DROP INDEX beat_lane_key;
DROP INDEX beat_lane_epoch;
