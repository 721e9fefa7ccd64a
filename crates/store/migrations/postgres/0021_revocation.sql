-- What has ended and must be felt by whatever was opened under it, on every server of these books. Triggers write
-- it, so that no statement that ends something can forget it. Rows are kept for a day.

CREATE TABLE revocation (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at BIGINT NOT NULL DEFAULT extract(epoch FROM clock_timestamp())::BIGINT,
    kind TEXT NOT NULL CHECK (kind IN ('key', 'session', 'account', 'machine')),
    subject BYTEA NOT NULL CHECK (length(subject) = 16)
);
CREATE INDEX revocation_at ON revocation (at);

CREATE FUNCTION has_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO revocation (kind, subject)
        VALUES (TG_ARGV[0], CASE WHEN TG_OP = 'DELETE' THEN old.id ELSE new.id END);
    RETURN NULL;
END
$$;
CREATE TRIGGER key_is_revoked AFTER UPDATE ON key FOR EACH ROW
    WHEN (old.revoked_at IS NULL AND new.revoked_at IS NOT NULL) EXECUTE FUNCTION has_ended('key');
CREATE TRIGGER session_is_over AFTER DELETE ON session FOR EACH ROW EXECUTE FUNCTION has_ended('session');
CREATE TRIGGER account_is_another AFTER UPDATE ON account FOR EACH ROW
    WHEN (old.role <> new.role) EXECUTE FUNCTION has_ended('account');
CREATE TRIGGER machine_has_left AFTER UPDATE ON machine FOR EACH ROW
    WHEN (old.left_at IS NULL AND new.left_at IS NOT NULL) EXECUTE FUNCTION has_ended('machine');
