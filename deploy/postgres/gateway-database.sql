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
-- The gate is an advisory lock: whoever could take it for as long as they like could stop provision. `migrate` takes one of
-- its own kind.
REVOKE EXECUTE ON FUNCTION pg_advisory_lock(bigint), pg_advisory_lock_shared(bigint), pg_try_advisory_lock(bigint),
    pg_try_advisory_lock_shared(bigint), pg_advisory_xact_lock(bigint), pg_advisory_xact_lock_shared(bigint),
    pg_try_advisory_xact_lock(bigint), pg_try_advisory_xact_lock_shared(bigint), pg_advisory_lock(int, int),
    pg_advisory_lock_shared(int, int), pg_try_advisory_lock(int, int), pg_try_advisory_lock_shared(int, int),
    pg_advisory_xact_lock(int, int), pg_advisory_xact_lock_shared(int, int), pg_try_advisory_xact_lock(int, int),
    pg_try_advisory_xact_lock_shared(int, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO portal_gateway_owner;
GRANT EXECUTE ON FUNCTION pg_advisory_xact_lock(bigint), pg_advisory_xact_lock_shared(bigint),
    pg_try_advisory_xact_lock(bigint), pg_try_advisory_xact_lock_shared(bigint) TO portal_gateway_service;
