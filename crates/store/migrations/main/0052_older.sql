-- Hours before the last one of which beats came late, in the order in which they were folded: the projection looks
-- at the running hour and the one before by itself, and here for the others.
CREATE TABLE uptime_older (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    gpu BLOB NOT NULL CHECK (length(gpu) = 16),
    hour INTEGER NOT NULL
) STRICT;
CREATE INDEX uptime_older_hour ON uptime_older (hour);
