-- The portal side. What identifies a person, a card or a linkage is sealed or an HMAC or hash (32 bytes); in plain stand
-- only frontends' names, kinds, states and times.

CREATE TABLE challenge (
    id         BLOB    PRIMARY KEY,
    frontend   TEXT    NOT NULL,
    text       BLOB    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX challenge_expires_at ON challenge (expires_at);

CREATE TABLE account (
    id         INTEGER PRIMARY KEY,
    made_at    INTEGER NOT NULL
) STRICT;

-- A card leads to an account, by the key of its certificate, to which linkages and blocks are bound as well. A reissued card
-- has another certificate and another key: an operator binds it to the account of the card that it replaces.
CREATE TABLE card (
    card_key   BLOB    PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES account (id)
) STRICT, WITHOUT ROWID;

CREATE TABLE session (
    token         BLOB    PRIMARY KEY,
    account_id    INTEGER NOT NULL REFERENCES account (id),
    frontend      TEXT    NOT NULL,
    card_key      BLOB    NOT NULL,
    card_issuer   BLOB    NOT NULL,
    sealed_card   BLOB    NOT NULL,
    proof_sha256  BLOB    NOT NULL,
    sealed_proof  BLOB    NOT NULL,
    logged_in_at  INTEGER NOT NULL,
    last_used_at  INTEGER NOT NULL,
    ended         INTEGER NOT NULL CHECK (ended IN (0, 1)),
    -- An act of its own, behind the gate, has ended it: logout, a block, a card that is replaced.
    closed        INTEGER NOT NULL CHECK (ended IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX session_logged_in_at ON session (logged_in_at, token);
CREATE INDEX session_card_key ON session (card_key);
CREATE INDEX session_account ON session (account_id) WHERE NOT ended;

CREATE TABLE consent (
    id          BLOB    PRIMARY KEY,
    account_id  INTEGER NOT NULL REFERENCES account (id),
    kind        INTEGER NOT NULL,
    text_sha256 BLOB    NOT NULL,
    language    TEXT    NOT NULL,
    given_at    INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    one_time    INTEGER NOT NULL CHECK (one_time IN (0, 1)),
    state       TEXT    NOT NULL CHECK (state IN ('GIVEN', 'SPENT', 'WITHDRAWN')),
    -- When it was withdrawn.
    withdrawn_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX consent_given ON consent (account_id, kind) WHERE state = 'GIVEN';
CREATE INDEX consent_expires_at ON consent (expires_at);
CREATE INDEX consent_of ON consent (account_id, given_at, id);

CREATE TABLE linkage (
    code         BLOB    PRIMARY KEY,
    sealed_code  BLOB    NOT NULL,
    card_key     BLOB    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('PENDING', 'ACTIVE', 'SUSPENDED', 'REVOKED')),
    confirmed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- A card has one linkage that is not revoked at most.
CREATE UNIQUE INDEX linkage_card_key ON linkage (card_key) WHERE state <> 'REVOKED';

CREATE TABLE block (
    card_key BLOB    PRIMARY KEY,
    since    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The requesters' own records: an index of the audit log, made from its bundles and made anew when both tables are emptied.
-- account is the pseudonym that stands in the entries; public_part and commitment are the entry's leaf.
CREATE TABLE provision_record (
    log         TEXT    NOT NULL,
    entry_index INTEGER NOT NULL,
    account     BLOB    NOT NULL,
    at          INTEGER NOT NULL,
    frontend    TEXT    NOT NULL,
    public_part BLOB    NOT NULL,
    commitment  BLOB    NOT NULL,
    PRIMARY KEY (account, at, log, entry_index)
) STRICT;
CREATE INDEX provision_record_at ON provision_record (at);

-- How many bundles of each log are in it.
CREATE TABLE indexed_log (
    log     TEXT    PRIMARY KEY,
    bundles INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How far each log here was looked through for answers that were lost, in each log of the registry side: the next bundle there,
-- and the first bundle here that can have an entry for it.
CREATE TABLE lost_answer_place (
    log             TEXT    NOT NULL,
    provider_log    TEXT    NOT NULL,
    provider_bundle INTEGER NOT NULL,
    own_bundle      INTEGER NOT NULL,
    PRIMARY KEY (log, provider_log)
) STRICT, WITHOUT ROWID;
