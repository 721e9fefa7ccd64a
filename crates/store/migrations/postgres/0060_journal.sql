-- Beats that were acknowledged and are not folded into the books yet: a stream for each server, one blob a batch. A
-- server only adds to its own; what one has left behind is folded by another.
CREATE TABLE journal (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream BYTEA NOT NULL CHECK (length(stream) = 16),
    lines BYTEA NOT NULL
);
CREATE INDEX journal_stream ON journal (stream, id);
-- MACs and hashes do not get smaller.
ALTER TABLE journal ALTER COLUMN lines SET STORAGE EXTERNAL;

CREATE FUNCTION gangline_intake.append(whose BYTEA, batch BYTEA) RETURNS BIGINT
    LANGUAGE sql SECURITY DEFINER SET search_path = gangline, pg_temp AS
    $$ INSERT INTO journal (stream, lines) VALUES (whose, batch) RETURNING id $$;
CREATE FUNCTION gangline_intake.discard(whose BYTEA, folded BIGINT) RETURNS VOID
    LANGUAGE sql SECURITY DEFINER SET search_path = gangline, pg_temp AS
    $$ DELETE FROM journal WHERE stream = whose AND id <= folded $$;
