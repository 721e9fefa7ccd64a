-- Witnesses that are asked to cosign the log's checkpoints, as they last answered.
CREATE TABLE witness (
    -- Its key, as name+hash+key.
    key TEXT PRIMARY KEY,
    -- Entries that it has cosigned last, as far as is known.
    size BIGINT NOT NULL DEFAULT 0,
    cosigned_at BIGINT,
    -- In milliseconds: it is not asked again before.
    asked_until BIGINT NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'signs', 'away', 'refuses')),
    error TEXT NOT NULL DEFAULT '',
    -- When people were told last that it is late.
    late_at BIGINT NOT NULL DEFAULT 0
);

-- The newest checkpoints that witnesses have cosigned.
CREATE TABLE gangline_public.cosigned (
    size BIGINT PRIMARY KEY,
    note TEXT NOT NULL
);
CREATE TABLE gangline_public.cosignature (
    size BIGINT NOT NULL,
    witness TEXT NOT NULL,
    line TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (size, witness)
);
