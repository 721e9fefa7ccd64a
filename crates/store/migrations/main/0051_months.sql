-- Old uptime, packed: one row for each GPU and month of thirty days, as rules::months has it. Hours move here once
-- they can no longer change and their snapshot is taken.
CREATE TABLE uptime_month (
    gpu BLOB NOT NULL CHECK (length(gpu) = 16),
    month INTEGER NOT NULL,
    days BLOB NOT NULL,
    PRIMARY KEY (gpu, month)
) STRICT, WITHOUT ROWID;
