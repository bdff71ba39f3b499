-- Who may do what in this side's database; once per database, as a superuser, in that database, before `migrate`. What the
-- service and the auditor may do with each table is granted by the migrations.
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO portal_gateway_owner, portal_gateway_service, portal_gateway_auditor', current_database());
END
$$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO portal_gateway_owner;
GRANT USAGE ON SCHEMA public TO portal_gateway_service, portal_gateway_auditor;
