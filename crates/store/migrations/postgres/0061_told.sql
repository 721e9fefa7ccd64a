-- What other servers hear of at once, by LISTEN gangline, and would find by themselves a little later: that something
-- has ended, and of which machine a cluster changed.
CREATE OR REPLACE FUNCTION has_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO revocation (kind, subject)
        VALUES (TG_ARGV[0], CASE WHEN TG_OP = 'DELETE' THEN old.id ELSE new.id END);
    PERFORM pg_notify('gangline', 'ended');
    RETURN NULL;
END
$$;
CREATE OR REPLACE FUNCTION cluster_rewritten() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO gpu_changed (gpu) VALUES (new.gpu);
    PERFORM pg_notify('gangline', 'cluster ' || encode(new.machine, 'hex'));
    RETURN NULL;
END
$$;
