-- The roles of both sides; once per server, as a superuser. Running it again changes nothing. Passwords are set apart, for
-- instance with psql's \password, never in a file that is kept.
--
--   owner    owns the schema, runs `migrate`, archives; never the running service
--   service  the running service: writes bundles, acts and closings, and changes none
--   auditor  reads the audit log
DO $$
DECLARE
    side text;
    task text;
BEGIN
    FOREACH side IN ARRAY ARRAY['koseki_provider', 'portal_gateway'] LOOP
        FOREACH task IN ARRAY ARRAY['owner', 'service', 'auditor'] LOOP
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = side || '_' || task) THEN
                EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION', side || '_' || task);
            END IF;
        END LOOP;
    END LOOP;
END
$$;
