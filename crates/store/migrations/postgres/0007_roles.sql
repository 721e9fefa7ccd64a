-- Two roles beside the owner: the explorer reads the public projection and nothing else, the intake calls the
-- functions of gangline_intake and nothing else. Their names carry the database's, for roles belong to the
-- whole server.

CREATE FUNCTION role_name(purpose TEXT) RETURNS TEXT LANGUAGE sql STABLE AS
    $$ SELECT left(current_database(), 50) || '_' || purpose $$;

-- Makes a role if it is not there, and sets its password. Whoever may not make roles has it made by somebody
-- who may; then only the password has to be right.
CREATE FUNCTION ensure_role(purpose TEXT, secret TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    named TEXT := role_name(purpose);
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = named) THEN
        EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS NOINHERIT', named);
    END IF;
    EXECUTE format('ALTER ROLE %I PASSWORD %L', named, secret);
END
$$;

-- Gives both roles exactly what they need, of what exists by now, and everybody else nothing.
CREATE FUNCTION ensure_grants() RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    explorer TEXT := role_name('explorer');
    intake TEXT := role_name('intake');
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I, %I', current_database(), explorer, intake);
    REVOKE ALL ON SCHEMA gangline, gangline_public, gangline_intake FROM PUBLIC;
    REVOKE ALL ON ALL TABLES IN SCHEMA gangline, gangline_public, gangline_intake FROM PUBLIC;
    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA gangline, gangline_public, gangline_intake FROM PUBLIC;
    EXECUTE format('GRANT USAGE ON SCHEMA gangline_public TO %I', explorer);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA gangline_public TO %I', explorer);
    EXECUTE format('GRANT USAGE ON SCHEMA gangline_intake TO %I', intake);
    EXECUTE format('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA gangline_intake TO %I', intake);
    -- Only who owns these may: a superuser, or the owner of a database made for Gangline alone. Who may not is
    -- told nothing and loses nothing, for nothing of ours keys on a setting.
    BEGIN
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
    EXCEPTION WHEN insufficient_privilege OR invalid_schema_name THEN NULL;
    END;
    BEGIN
        REVOKE EXECUTE ON FUNCTION pg_catalog.set_config(TEXT, TEXT, BOOLEAN) FROM PUBLIC;
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END;
END
$$;
