-- The registry side. What identifies a person or a register is sealed or an HMAC (32 bytes); in plain stand only
-- municipality code, kind, medium, state, revision and times.

CREATE TABLE register_copy (
    id                INTEGER PRIMARY KEY,
    key               BLOB    NOT NULL UNIQUE,
    municipality_code TEXT    NOT NULL,
    kind              TEXT    NOT NULL CHECK (kind IN ('current', 'removed', 'pre_revision')),
    medium            TEXT    NOT NULL CHECK (medium IN ('text', 'image', 'paper')),
    in_motion         INTEGER NOT NULL CHECK (in_motion IN (0, 1)),
    revision          INTEGER NOT NULL,
    digest            BLOB    NOT NULL,
    received_at       INTEGER NOT NULL,
    body              BLOB    NOT NULL
) STRICT;

CREATE INDEX register_copy_age ON register_copy (municipality_code, received_at);

-- position: the member's place in the copy, from 0.
CREATE TABLE member (
    register_id INTEGER NOT NULL REFERENCES register_copy (id) ON DELETE CASCADE,
    reference   BLOB    NOT NULL,
    removed     INTEGER NOT NULL CHECK (removed IN (0, 1)),
    position    INTEGER NOT NULL,
    PRIMARY KEY (reference, register_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_register ON member (register_id);

CREATE TABLE person (
    id      INTEGER PRIMARY KEY,
    person  BLOB    NOT NULL UNIQUE,
    content BLOB    NOT NULL
) STRICT;

-- A reference belongs to one person at most.
CREATE TABLE person_member (
    reference BLOB    PRIMARY KEY,
    person_id INTEGER NOT NULL REFERENCES person (id)
) STRICT, WITHOUT ROWID;
CREATE INDEX person_member_person ON person_member (person_id);

-- Persons who are entered in more than one current register, for the alarm: they are few.
CREATE TABLE several_current_registers (
    person BLOB    PRIMARY KEY,
    since  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- person: that of person_id, which never changes, so that a release need not look it up.
CREATE TABLE linkage (
    handle        BLOB    PRIMARY KEY,
    sealed_handle BLOB    NOT NULL,
    person_id     INTEGER NOT NULL REFERENCES person (id),
    person        BLOB    NOT NULL,
    card_key      BLOB    NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN ('PENDING', 'ACTIVE', 'SUSPENDED', 'REVOKED')),
    confirmed_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX linkage_card_key ON linkage (card_key);
CREATE INDEX linkage_person ON linkage (person_id);
CREATE INDEX linkage_suspended ON linkage (person) WHERE state = 'SUSPENDED';

-- A person, a register, or (both) one requester against a register. No valid_from means at once: in force by the order
-- of the gate, whatever two clocks say. A released record stays, for those who ask what there was.
CREATE TABLE non_provision (
    id              INTEGER PRIMARY KEY,
    act_id          BLOB    NOT NULL UNIQUE,
    person          BLOB,
    register        BLOB,
    valid_from      INTEGER,
    valid_until     INTEGER,
    authority       BLOB    NOT NULL,
    document_number BLOB    NOT NULL,
    recorded_at     INTEGER NOT NULL,
    recorded_by     TEXT    NOT NULL,
    released_at     INTEGER,
    CHECK (person IS NOT NULL OR register IS NOT NULL)
) STRICT;
CREATE INDEX non_provision_person ON non_provision (person) WHERE person IS NOT NULL;
CREATE INDEX non_provision_register ON non_provision (register) WHERE register IS NOT NULL;
CREATE INDEX non_provision_begins ON non_provision (valid_from) WHERE valid_from IS NOT NULL AND released_at IS NULL;
CREATE INDEX non_provision_ends ON non_provision (valid_until) WHERE valid_until IS NOT NULL AND released_at IS NULL;

-- Linkages that a record stops altogether, and those that one has stopped, for the suppression feed. register: whose record it
-- is; empty for one about the person. sequence: of the last change.
CREATE TABLE suppression (
    handle   BLOB    PRIMARY KEY REFERENCES linkage (handle),
    register BLOB    NOT NULL,
    standing INTEGER NOT NULL,
    sequence INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX suppression_register ON suppression (register) WHERE standing;
CREATE INDEX suppression_sequence ON suppression (sequence);

-- How far the feed has come; until when records that begin or end by their time were taken in.
CREATE TABLE suppression_head (
    one          INTEGER PRIMARY KEY CHECK (one = 1),
    sequence     INTEGER NOT NULL,
    looked_until INTEGER NOT NULL
) STRICT;
INSERT INTO suppression_head (one, sequence, looked_until) VALUES (1, 0, 0);

-- Which sequence numbers of a gateway have been used at a log: the highest, and a bit for each of the 62 below it.
CREATE TABLE eligibility_window (
    log     TEXT    NOT NULL,
    gateway TEXT    NOT NULL,
    highest INTEGER NOT NULL,
    below   INTEGER NOT NULL,
    PRIMARY KEY (log, gateway)
) STRICT;
