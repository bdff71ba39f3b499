-- The registry side. What identifies a person or a register is sealed or an HMAC (32 bytes); in plain stand only
-- municipality code, kind, medium, state, revision and times.

CREATE TABLE register_copy (
    id                BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key               BYTEA   NOT NULL UNIQUE,
    municipality_code TEXT    NOT NULL,
    kind              TEXT    NOT NULL CHECK (kind IN ('current', 'removed', 'pre_revision')),
    medium            TEXT    NOT NULL CHECK (medium IN ('text', 'image', 'paper')),
    in_motion         BOOLEAN NOT NULL,
    revision          BIGINT  NOT NULL,
    digest            BYTEA   NOT NULL,
    received_at       BIGINT  NOT NULL,
    body              BYTEA   NOT NULL
);
-- A sealed body does not compress, and one that stands in its row is read without another index.
ALTER TABLE register_copy SET (toast_tuple_target = 8160);

CREATE INDEX register_copy_age ON register_copy (municipality_code, received_at);

-- position: the member's place in the copy, from 0. What a release reads of members stands in the indexes by which it
-- finds them, here and below: each page that it does not visit counts when the tables are larger than caches.
CREATE TABLE member (
    register_id BIGINT  NOT NULL REFERENCES register_copy (id) ON DELETE CASCADE,
    reference   BYTEA   NOT NULL,
    removed     BOOLEAN NOT NULL,
    position    BIGINT  NOT NULL,
    PRIMARY KEY (reference, register_id) INCLUDE (removed, position)
);
CREATE INDEX member_register ON member (register_id);

CREATE TABLE person (
    id      BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person  BYTEA   NOT NULL UNIQUE,
    content BYTEA   NOT NULL
);

-- A reference belongs to one person at most.
CREATE TABLE person_member (
    reference BYTEA   PRIMARY KEY,
    person_id BIGINT  NOT NULL REFERENCES person (id)
);
CREATE INDEX person_member_person ON person_member (person_id) INCLUDE (reference);

-- Persons who are entered in more than one current register, for the alarm: they are few.
CREATE TABLE several_current_registers (
    person BYTEA  PRIMARY KEY,
    since  BIGINT NOT NULL
);

-- person: that of person_id, which never changes, so that a release need not look it up.
CREATE TABLE linkage (
    handle        BYTEA   PRIMARY KEY,
    sealed_handle BYTEA   NOT NULL,
    person_id     BIGINT  NOT NULL REFERENCES person (id),
    person        BYTEA   NOT NULL,
    card_key      BYTEA   NOT NULL,
    state         TEXT    NOT NULL CHECK (state IN ('PENDING', 'ACTIVE', 'SUSPENDED', 'REVOKED')),
    confirmed_at  BIGINT  NOT NULL
);
CREATE INDEX linkage_card_key ON linkage (card_key);
CREATE INDEX linkage_person ON linkage (person_id);
CREATE INDEX linkage_suspended ON linkage (person) WHERE state = 'SUSPENDED';

-- A person, a register, or (both) one requester against a register. No valid_from means at once: in force by the order
-- of the gate, whatever two clocks say. A released record stays, for those who ask what there was.
CREATE TABLE non_provision (
    id              BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    act_id          BYTEA   NOT NULL UNIQUE,
    person          BYTEA,
    register        BYTEA,
    valid_from      BIGINT,
    valid_until     BIGINT,
    authority       BYTEA   NOT NULL,
    document_number BYTEA   NOT NULL,
    recorded_at     BIGINT  NOT NULL,
    recorded_by     TEXT    NOT NULL,
    released_at     BIGINT,
    CHECK (person IS NOT NULL OR register IS NOT NULL)
);
CREATE INDEX non_provision_person ON non_provision (person) WHERE person IS NOT NULL;
CREATE INDEX non_provision_register ON non_provision (register) WHERE register IS NOT NULL;
CREATE INDEX non_provision_begins ON non_provision (valid_from) WHERE valid_from IS NOT NULL AND released_at IS NULL;
CREATE INDEX non_provision_ends ON non_provision (valid_until) WHERE valid_until IS NOT NULL AND released_at IS NULL;

-- Linkages that a record stops altogether, and those that one has stopped, for the suppression feed. register: whose record it
-- is; empty for one about the person. sequence: of the last change.
CREATE TABLE suppression (
    handle   BYTEA   PRIMARY KEY REFERENCES linkage (handle),
    register BYTEA   NOT NULL,
    standing BOOLEAN NOT NULL,
    sequence BIGINT  NOT NULL
);
CREATE INDEX suppression_register ON suppression (register) WHERE standing;
CREATE INDEX suppression_sequence ON suppression (sequence);

-- How far the feed has come; until when records that begin or end by their time were taken in.
CREATE TABLE suppression_head (
    one          BIGINT  PRIMARY KEY CHECK (one = 1),
    sequence     BIGINT  NOT NULL,
    looked_until BIGINT  NOT NULL
);
INSERT INTO suppression_head (one, sequence, looked_until) VALUES (1, 0, 0);

-- Which sequence numbers of a gateway have been used at a log: the highest, and a bit for each of the 62 below it.
CREATE TABLE eligibility_window (
    log     TEXT    NOT NULL,
    gateway TEXT    NOT NULL,
    highest BIGINT  NOT NULL,
    below   BIGINT  NOT NULL,
    PRIMARY KEY (log, gateway)
);

-- Uses a gateway's number up, if it was not: those below the window count as used.
CREATE FUNCTION use_sequence(in_log TEXT, in_gateway TEXT, number BIGINT) RETURNS BOOLEAN LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO eligibility_window AS used (log, gateway, highest, below) VALUES (in_log, in_gateway, number, 0)
        ON CONFLICT (log, gateway) DO UPDATE SET
            highest = greatest(used.highest, number),
            -- The old highest becomes the bit as far below the new one as it is lower; what falls off the end counts as used.
            below = CASE
                WHEN number - used.highest > 62 THEN 0
                WHEN number > used.highest
                THEN ((used.below << (number - used.highest)::int) | (1::bigint << (number - used.highest - 1)::int))
                     & 4611686018427387903
                ELSE used.below | (1::bigint << (used.highest - number - 1)::int)
            END
        WHERE number > used.highest
           OR number >= used.highest - 62 AND number < used.highest
              AND (used.below >> (used.highest - number - 1)::int) & 1 = 0;
    RETURN FOUND;
END
$$;

-- A release of several gateways' batches in one statement, as `append_at` does it. KR001: a number was used before, nothing is changed.
CREATE FUNCTION release_batches(
    epoch BIGINT, log TEXT, generation BIGINT, before BIGINT, size BIGINT, frontier BYTEA,
    number BIGINT, body BYTEA, hashes BYTEA, sealed BYTEA, ids BYTEA[], gateways TEXT[], sequences BIGINT[]
) RETURNS BOOLEAN LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT append_at(epoch, log, generation, before, size, frontier, number, body, hashes, sealed, ids) THEN
        RETURN FALSE;
    END IF;
    FOR place IN 1 .. cardinality(gateways) LOOP
        IF NOT use_sequence(log, gateways[place], sequences[place]) THEN
            RAISE EXCEPTION 'a sequence number was used before' USING ERRCODE = 'KR001';
        END IF;
    END LOOP;
    RETURN TRUE;
END
$$;
REVOKE EXECUTE ON FUNCTION use_sequence, release_batches FROM PUBLIC;

-- What the running service may do, and what an auditor may. Neither changes or removes a bundle, an act or a closing.
GRANT SELECT ON _sqlx_migrations, gate_facts TO koseki_provider_service;
GRANT SELECT, UPDATE ON gate TO koseki_provider_service;
GRANT SELECT, INSERT ON bundle, act TO koseki_provider_service;
GRANT SELECT, INSERT ON replaced_card TO koseki_provider_service;
GRANT SELECT, INSERT, UPDATE ON database_identity, lookup_key, revocation_list, log_head, log_checkpoint, witnessed_log, retention_mark, closing, proposal
    TO koseki_provider_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON suspension, used_request_id TO koseki_provider_service;
GRANT SELECT, INSERT, UPDATE ON register_copy, person, linkage, non_provision, eligibility_window, suppression
    TO koseki_provider_service;
GRANT SELECT, UPDATE ON suppression_head TO koseki_provider_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON member, person_member, several_current_registers TO koseki_provider_service;
GRANT SELECT ON gate, log_head, log_checkpoint, witnessed_log, bundle TO koseki_provider_auditor;
GRANT EXECUTE ON FUNCTION append_at, use_sequence, release_batches TO koseki_provider_service;
