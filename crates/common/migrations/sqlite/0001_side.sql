-- What both sides have: the gate's epoch, the audit log, suspensions, acts and approvals, used request ids.
-- Times are milliseconds since 1970-01-01T00:00:00Z.

-- policy_effective_at: when the newest policy that any instance has taken came into force; an instance whose own is older
-- releases nothing.
CREATE TABLE gate (
    one                 INTEGER PRIMARY KEY CHECK (one = 1),
    epoch               INTEGER NOT NULL,
    policy_effective_at INTEGER NOT NULL
) STRICT;
INSERT INTO gate (one, epoch, policy_effective_at) VALUES (1, 0, 0);

-- What the look-up key makes of nothing: with another key nothing here would be found, suppressions among it.
CREATE TABLE lookup_key (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    fingerprint BLOB    NOT NULL
) STRICT;

-- The logs that are written here. frontier: the roots of the complete subtrees of its tree, 32 bytes each. generation: its
-- owner's; a process that has an older one writes no more. closed: nothing comes after its last entry, ever.
CREATE TABLE log_head (
    log        TEXT    PRIMARY KEY,
    generation INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    bundles    INTEGER NOT NULL,
    frontier   BLOB    NOT NULL,
    closed     INTEGER NOT NULL CHECK (closed IN (0, 1))
) STRICT;

-- A commit's entries. hashes: for each entry its leaf's hash, then the roots of the subtrees that it completes, 32 bytes each;
-- they stay when the body is archived and goes. sealed: what is kept of the answers and stands in no entry, their salts.
CREATE TABLE bundle (
    log         TEXT    NOT NULL,
    number      INTEGER NOT NULL,
    first_index INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    body        BLOB,
    hashes      BLOB    NOT NULL,
    sealed      BLOB,
    PRIMARY KEY (log, number)
) STRICT;
CREATE UNIQUE INDEX bundle_first_index ON bundle (log, first_index);

-- The newest checkpoint of each log here, and the newest that the other side has countersigned: signed notes.
CREATE TABLE log_checkpoint (
    log               TEXT    PRIMARY KEY,
    size              INTEGER NOT NULL,
    note              TEXT    NOT NULL,
    witnessed_size    INTEGER NOT NULL,
    witnessed_note    TEXT    NOT NULL
) STRICT;

-- How far this side has countersigned each log of the other side: it never countersigns anything that is not consistent with it,
-- and nothing at all any more of one that is closed.
CREATE TABLE witnessed_log (
    origin TEXT    PRIMARY KEY,
    size   INTEGER NOT NULL,
    root   BLOB    NOT NULL,
    note   TEXT    NOT NULL,
    closed INTEGER NOT NULL CHECK (closed IN (0, 1))
) STRICT;

-- Bodies of bundles before this number may be dropped: a mark that two persons have made.
CREATE TABLE retention_mark (
    log           TEXT    PRIMARY KEY,
    before_bundle INTEGER NOT NULL
) STRICT;

-- kind 0 stands for all kinds.
CREATE TABLE suspension (
    kind  INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    since INTEGER NOT NULL
) STRICT;

-- The newest revocation list of each root of cards that was taken: an instance that holds an older one has none. issuer is
-- the SHA-256 of the root's key; number is big-endian in 20 bytes, so that it compares as numbers compare.
CREATE TABLE revocation_list (
    issuer      BLOB    PRIMARY KEY CHECK (length(issuer) = 32),
    number      BLOB    NOT NULL CHECK (length(number) = 20),
    accepted_at INTEGER NOT NULL
) STRICT;

-- All that could forbid every release, in one text that any statement can bring as a column: the epoch, the moment of the newest
-- policy, the numbers of the revocation lists, the kinds that are suspended. Every change of it makes a new epoch.
CREATE VIEW gate_facts AS SELECT epoch || ' ' || policy_effective_at
    || ' ' || coalesce((SELECT string_agg(hex(issuer) || hex(number), ',') FROM revocation_list), '')
    || ' ' || coalesce((SELECT string_agg(CAST(kind AS TEXT), ',') FROM suspension), '') AS facts
FROM gate;

-- Acts that were done, so that one sent again changes nothing.
CREATE TABLE act (
    id      BLOB    PRIMARY KEY,
    content BLOB    NOT NULL,
    epoch   INTEGER NOT NULL
) STRICT;

-- Closings: in force at once, to be confirmed by another person.
CREATE TABLE closing (
    act_id       BLOB    PRIMARY KEY,
    act          TEXT    NOT NULL,
    actor        TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    confirmed_by TEXT,
    confirmed_at INTEGER
) STRICT;
CREATE INDEX closing_unconfirmed ON closing (at) WHERE confirmed_by IS NULL;

-- Openings: proposed by one person, done when another approves. target is an HMAC of what is opened: a new closing of the
-- same makes its proposals void. The act itself is sealed.
CREATE TABLE proposal (
    id          BLOB    PRIMARY KEY,
    target      BLOB    NOT NULL,
    act_sha256  BLOB    NOT NULL,
    sealed_act  BLOB    NOT NULL,
    proposer    TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    proposed_at INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    voided      INTEGER NOT NULL CHECK (voided IN (0, 1)),
    approved_by TEXT,
    epoch       INTEGER
) STRICT;
CREATE INDEX proposal_target ON proposal (target);
CREATE INDEX proposal_pending ON proposal (proposed_at) WHERE approved_by IS NULL;

-- An id begins with its time (UUIDv7), so that those that no fresh request can carry any more are the lowest.
CREATE TABLE used_request_id (
    id BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- Cards that were replaced by another of the same person: one that stands here is never bound again.
CREATE TABLE replaced_card (
    card_key    BLOB PRIMARY KEY,
    replaced_by BLOB NOT NULL
) STRICT, WITHOUT ROWID;
