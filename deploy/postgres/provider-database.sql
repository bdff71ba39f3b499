-- Who may do what in this side's database; once per database, as a superuser, in that database, before `migrate`. What the
-- service and the auditor may do with each table is granted by the migrations.
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO koseki_provider_owner, koseki_provider_service, koseki_provider_auditor', current_database());
END
$$;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO koseki_provider_owner;
GRANT USAGE ON SCHEMA public TO koseki_provider_service, koseki_provider_auditor;
-- The gate is an advisory lock: whoever could take it for as long as they like could stop provision. `migrate` takes one of
-- its own kind.
REVOKE EXECUTE ON FUNCTION pg_advisory_lock(bigint), pg_advisory_lock_shared(bigint), pg_try_advisory_lock(bigint),
    pg_try_advisory_lock_shared(bigint), pg_advisory_xact_lock(bigint), pg_advisory_xact_lock_shared(bigint),
    pg_try_advisory_xact_lock(bigint), pg_try_advisory_xact_lock_shared(bigint), pg_advisory_lock(int, int),
    pg_advisory_lock_shared(int, int), pg_try_advisory_lock(int, int), pg_try_advisory_lock_shared(int, int),
    pg_advisory_xact_lock(int, int), pg_advisory_xact_lock_shared(int, int), pg_try_advisory_xact_lock(int, int),
    pg_try_advisory_xact_lock_shared(int, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO koseki_provider_owner;
GRANT EXECUTE ON FUNCTION pg_advisory_xact_lock(bigint), pg_advisory_xact_lock_shared(bigint),
    pg_try_advisory_xact_lock(bigint), pg_try_advisory_xact_lock_shared(bigint) TO koseki_provider_service;
