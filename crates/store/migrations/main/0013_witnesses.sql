-- Witnesses that are asked to cosign the log's checkpoints, as they last answered.
CREATE TABLE witness (
    -- Its key, as name+hash+key.
    key TEXT PRIMARY KEY,
    -- Entries that it has cosigned last, as far as is known.
    size INTEGER NOT NULL DEFAULT 0,
    cosigned_at INTEGER,
    -- In milliseconds: it is not asked again before.
    asked_until INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'signs', 'away', 'refuses')),
    error TEXT NOT NULL DEFAULT '',
    -- When people were told last that it is late.
    late_at INTEGER NOT NULL DEFAULT 0
) STRICT;
