-- What both sides have: the gate's epoch, the audit log, suspensions, acts and approvals, used request ids.
-- Times are milliseconds since 1970-01-01T00:00:00Z.

-- policy_effective_at: when the newest policy that any instance has taken came into force; an instance whose own is older
-- releases nothing.
CREATE TABLE gate (
    one                 BIGINT  PRIMARY KEY CHECK (one = 1),
    epoch               BIGINT  NOT NULL,
    policy_effective_at BIGINT  NOT NULL
);
INSERT INTO gate (one, epoch, policy_effective_at) VALUES (1, 0, 0);

-- What the look-up key makes of nothing: with another key nothing here would be found, suppressions among it.
CREATE TABLE lookup_key (
    one         BIGINT  PRIMARY KEY CHECK (one = 1),
    fingerprint BYTEA   NOT NULL
);

-- The logs that are written here. frontier: the roots of the complete subtrees of its tree, 32 bytes each. generation: its
-- owner's; a process that has an older one writes no more. closed: nothing comes after its last entry, ever.
CREATE TABLE log_head (
    log        TEXT    PRIMARY KEY,
    generation BIGINT  NOT NULL,
    size       BIGINT  NOT NULL,
    bundles    BIGINT  NOT NULL,
    frontier   BYTEA   NOT NULL,
    closed     BOOLEAN NOT NULL
);

-- A commit's entries. hashes: for each entry its leaf's hash, then the roots of the subtrees that it completes, 32 bytes each;
-- they stay when the body is archived and goes. sealed: what is kept of the answers and stands in no entry, their salts.
CREATE TABLE bundle (
    log         TEXT    NOT NULL,
    number      BIGINT  NOT NULL,
    first_index BIGINT  NOT NULL,
    epoch       BIGINT  NOT NULL,
    body        BYTEA,
    hashes      BYTEA   NOT NULL,
    sealed      BYTEA,
    PRIMARY KEY (log, number)
);
-- Digests, salts and ciphertext do not get smaller: to try took a twentieth of the server's time.
ALTER TABLE bundle ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE bundle ALTER COLUMN hashes SET STORAGE EXTERNAL;
ALTER TABLE bundle ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX bundle_first_index ON bundle (log, first_index);

-- The newest checkpoint of each log here, and the newest that the other side has countersigned: signed notes.
CREATE TABLE log_checkpoint (
    log               TEXT    PRIMARY KEY,
    size              BIGINT  NOT NULL,
    note              TEXT    NOT NULL,
    witnessed_size    BIGINT  NOT NULL,
    witnessed_note    TEXT    NOT NULL
);

-- How far this side has countersigned each log of the other side: it never countersigns anything that is not consistent with it,
-- and nothing at all any more of one that is closed.
CREATE TABLE witnessed_log (
    origin TEXT    PRIMARY KEY,
    size   BIGINT  NOT NULL,
    root   BYTEA   NOT NULL,
    note   TEXT    NOT NULL,
    closed BOOLEAN NOT NULL
);

-- Bodies of bundles before this number may be dropped: a mark that two persons have made.
CREATE TABLE retention_mark (
    log           TEXT    PRIMARY KEY,
    before_bundle BIGINT  NOT NULL
);

-- kind 0 stands for all kinds.
CREATE TABLE suspension (
    kind  BIGINT  PRIMARY KEY,
    epoch BIGINT  NOT NULL,
    since BIGINT  NOT NULL
);

-- The newest revocation list of each root of cards that was taken: an instance that holds an older one has none. issuer is
-- the SHA-256 of the root's key; number is big-endian in 20 bytes, so that it compares as numbers compare.
CREATE TABLE revocation_list (
    issuer      BYTEA   PRIMARY KEY CHECK (length(issuer) = 32),
    number      BYTEA   NOT NULL CHECK (length(number) = 20),
    accepted_at BIGINT  NOT NULL
);

-- All that could forbid every release, in one text that any statement can bring as a column: the epoch, the moment of the newest
-- policy, the numbers of the revocation lists, the kinds that are suspended. Every change of it makes a new epoch.
CREATE VIEW gate_facts AS SELECT epoch || ' ' || policy_effective_at
    || ' ' || coalesce((SELECT string_agg(encode(issuer, 'hex') || encode(number, 'hex'), ',') FROM revocation_list), '')
    || ' ' || coalesce((SELECT string_agg(CAST(kind AS TEXT), ',') FROM suspension), '') AS facts
FROM gate;

-- Acts that were done, so that one sent again changes nothing.
CREATE TABLE act (
    id      BYTEA   PRIMARY KEY,
    content BYTEA   NOT NULL,
    epoch   BIGINT  NOT NULL
);

-- Closings: in force at once, to be confirmed by another person.
CREATE TABLE closing (
    act_id       BYTEA   PRIMARY KEY,
    act          TEXT    NOT NULL,
    actor        TEXT    NOT NULL,
    at           BIGINT  NOT NULL,
    confirmed_by TEXT,
    confirmed_at BIGINT
);
CREATE INDEX closing_unconfirmed ON closing (at) WHERE confirmed_by IS NULL;

-- Openings: proposed by one person, done when another approves. target is an HMAC of what is opened: a new closing of the
-- same makes its proposals void. The act itself is sealed.
CREATE TABLE proposal (
    id          BYTEA   PRIMARY KEY,
    target      BYTEA   NOT NULL,
    act_sha256  BYTEA   NOT NULL,
    sealed_act  BYTEA   NOT NULL,
    proposer    TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    proposed_at BIGINT  NOT NULL,
    expires_at  BIGINT  NOT NULL,
    voided      BOOLEAN NOT NULL,
    approved_by TEXT,
    epoch       BIGINT
);
CREATE INDEX proposal_target ON proposal (target);
CREATE INDEX proposal_pending ON proposal (proposed_at) WHERE approved_by IS NULL;

-- An id begins with its time (UUIDv7), so that those that no fresh request can carry any more are the lowest.
CREATE TABLE used_request_id (
    id BYTEA PRIMARY KEY
);

-- Which database this is: after a promotion or a restore, provision stops until two persons resume it.
CREATE TABLE database_identity (
    one               BIGINT PRIMARY KEY CHECK (one = 1),
    system_identifier TEXT   NOT NULL,
    timeline          TEXT   NOT NULL
);

-- Cards that were replaced by another of the same person: one that stands here is never bound again.
CREATE TABLE replaced_card (
    card_key    BYTEA PRIMARY KEY,
    replaced_by BYTEA NOT NULL
);

-- A release in one statement, by what was read before under this epoch: true when it is done, false when nothing was changed since
-- somebody has the gate, or the epoch or the log's end is another one. Its statements come after each other, so that each sees what was
-- committed before the gate was taken; READ COMMITTED and VOLATILE are what lets it. 23505 (unique_violation): an id was used before, nothing
-- is changed.
CREATE FUNCTION append_at(
    in_epoch BIGINT, in_log TEXT, in_generation BIGINT, in_before BIGINT, in_size BIGINT, in_frontier BYTEA,
    in_number BIGINT, in_body BYTEA, in_hashes BYTEA, in_sealed BYTEA, in_ids BYTEA[]
) RETURNS BOOLEAN LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a snapshot from before the gate misses what forbids: READ COMMITTED is needed' USING ERRCODE = '25001';
    END IF;
    -- Not waited for: what was decided some time ago must not be committed now.
    IF NOT pg_try_advisory_xact_lock_shared(7236837466) THEN
        RETURN FALSE;
    END IF;
    UPDATE log_head SET size = in_size, bundles = in_number + 1, frontier = in_frontier
        WHERE log = in_log AND generation = in_generation AND size = in_before AND bundles = in_number AND NOT closed
          AND (SELECT epoch FROM gate WHERE one = 1) = in_epoch;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    -- ON CONFLICT would look for each of them twice.
    INSERT INTO used_request_id (id) SELECT id FROM unnest(in_ids) AS id ORDER BY id;
    INSERT INTO bundle (log, number, first_index, epoch, body, hashes, sealed)
        VALUES (in_log, in_number, in_before, in_epoch, in_body, in_hashes, in_sealed);
    RETURN TRUE;
END
$$;
REVOKE EXECUTE ON FUNCTION append_at FROM PUBLIC;
