-- The portal side. What identifies a person, a card or a linkage is sealed or an HMAC or hash (32 bytes); in plain stand
-- only frontends' names, kinds, states and times.

CREATE TABLE challenge (
    id         BYTEA   PRIMARY KEY,
    frontend   TEXT    NOT NULL,
    text       BYTEA   NOT NULL,
    expires_at BIGINT  NOT NULL
);
CREATE INDEX challenge_expires_at ON challenge (expires_at);

CREATE TABLE account (
    id         BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    made_at    BIGINT  NOT NULL
);

-- A card leads to an account, by the key of its certificate, to which linkages and blocks are bound as well. A reissued card
-- has another certificate and another key: an operator binds it to the account of the card that it replaces.
CREATE TABLE card (
    card_key   BYTEA   PRIMARY KEY,
    account_id BIGINT  NOT NULL REFERENCES account (id)
);

CREATE TABLE session (
    token         BYTEA   PRIMARY KEY,
    account_id    BIGINT  NOT NULL REFERENCES account (id),
    frontend      TEXT    NOT NULL,
    card_key      BYTEA   NOT NULL,
    card_issuer   BYTEA   NOT NULL,
    sealed_card   BYTEA   NOT NULL,
    proof_sha256  BYTEA   NOT NULL,
    sealed_proof  BYTEA   NOT NULL,
    logged_in_at  BIGINT  NOT NULL,
    last_used_at  BIGINT  NOT NULL,
    ended         BOOLEAN NOT NULL,
    -- An act of its own, behind the gate, has ended it: logout, a block, a card that is replaced.
    closed        BOOLEAN NOT NULL
);
CREATE INDEX session_logged_in_at ON session (logged_in_at, token);
CREATE INDEX session_card_key ON session (card_key);
CREATE INDEX session_account ON session (account_id) WHERE NOT ended;

CREATE TABLE consent (
    id          BYTEA   PRIMARY KEY,
    account_id  BIGINT  NOT NULL REFERENCES account (id),
    kind        BIGINT  NOT NULL,
    text_sha256 BYTEA   NOT NULL,
    language    TEXT    NOT NULL,
    given_at    BIGINT  NOT NULL,
    expires_at  BIGINT  NOT NULL,
    one_time    BOOLEAN NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('GIVEN', 'SPENT', 'WITHDRAWN')),
    -- When it was withdrawn.
    withdrawn_at BIGINT
);
CREATE INDEX consent_given ON consent (account_id, kind) WHERE state = 'GIVEN';
CREATE INDEX consent_expires_at ON consent (expires_at);
CREATE INDEX consent_of ON consent (account_id, given_at, id);

CREATE TABLE linkage (
    code         BYTEA   PRIMARY KEY,
    sealed_code  BYTEA   NOT NULL,
    card_key     BYTEA   NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('PENDING', 'ACTIVE', 'SUSPENDED', 'REVOKED')),
    confirmed_at BIGINT  NOT NULL
);
-- A card has one linkage that is not revoked at most.
CREATE UNIQUE INDEX linkage_card_key ON linkage (card_key) WHERE state <> 'REVOKED';

CREATE TABLE block (
    card_key BYTEA   PRIMARY KEY,
    since    BIGINT  NOT NULL
);

-- The requesters' own records: an index of the audit log, made from its bundles and made anew when both tables are emptied.
-- account is the pseudonym that stands in the entries; public_part and commitment are the entry's leaf.
CREATE TABLE provision_record (
    log         TEXT    NOT NULL,
    entry_index BIGINT  NOT NULL,
    account     BYTEA   NOT NULL,
    at          BIGINT  NOT NULL,
    frontend    TEXT    NOT NULL,
    public_part BYTEA   NOT NULL,
    commitment  BYTEA   NOT NULL,
    PRIMARY KEY (account, at, log, entry_index)
);
-- Records come in the order of their time: what is old is found by ranges of pages, at no cost to speak of for each row. Ranges
-- that nobody has summarised are read whole.
CREATE INDEX provision_record_at ON provision_record USING brin (at) WITH (autosummarize = on);

-- How many bundles of each log are in it.
CREATE TABLE indexed_log (
    log     TEXT    PRIMARY KEY,
    bundles BIGINT  NOT NULL
);

-- How far each log here was looked through for answers that were lost, in each log of the registry side: the next bundle there,
-- and the first bundle here that can have an entry for it.
CREATE TABLE lost_answer_place (
    log             TEXT    NOT NULL,
    provider_log    TEXT    NOT NULL,
    provider_bundle BIGINT  NOT NULL,
    own_bundle      BIGINT  NOT NULL,
    PRIMARY KEY (log, provider_log)
);

-- Sessions count as used then. Only forward, and several instances write: each locks its rows in one order.
CREATE FUNCTION mark_used(tokens BYTEA[], used_at BIGINT) RETURNS VOID LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF cardinality(tokens) > 0 THEN
        UPDATE session SET last_used_at = used_at WHERE NOT ended AND last_used_at < used_at
            AND token IN (SELECT token FROM session WHERE token = ANY (tokens) ORDER BY token FOR NO KEY UPDATE);
    END IF;
END
$$;

-- A release of a batch of answers in one statement, as `append_at` does it: one-time consents are spent, sessions are marked as used.
-- KR001: a consent could not be spent, nothing is changed.
CREATE FUNCTION release_answers(
    epoch BIGINT, log TEXT, generation BIGINT, before BIGINT, size BIGINT, frontier BYTEA,
    number BIGINT, body BYTEA, hashes BYTEA, sealed BYTEA, ids BYTEA[], consents BYTEA[], sessions BYTEA[], used_at BIGINT
) RETURNS BOOLEAN LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    spent BIGINT;
BEGIN
    IF NOT append_at(epoch, log, generation, before, size, frontier, number, body, hashes, sealed, ids) THEN
        RETURN FALSE;
    END IF;
    IF cardinality(consents) > 0 THEN
        UPDATE consent SET state = 'SPENT' WHERE state = 'GIVEN' AND one_time
            AND id IN (SELECT id FROM consent WHERE id = ANY (consents) ORDER BY id FOR NO KEY UPDATE);
        GET DIAGNOSTICS spent = ROW_COUNT;
        IF spent <> cardinality(consents) THEN
            RAISE EXCEPTION 'a consent could not be spent' USING ERRCODE = 'KR001';
        END IF;
    END IF;
    PERFORM mark_used(sessions, used_at);
    RETURN TRUE;
END
$$;

-- What requesters open in one statement: sessions of cards that have accounts, and consents.
CREATE FUNCTION open_at(
    epoch BIGINT, log TEXT, generation BIGINT, before BIGINT, size BIGINT, frontier BYTEA,
    number BIGINT, body BYTEA, hashes BYTEA, sealed BYTEA, ids BYTEA[],
    tokens BYTEA[], accounts BIGINT[], frontends TEXT[], card_keys BYTEA[], issuers BYTEA[], cards BYTEA[],
    proofs_sha256 BYTEA[], proofs BYTEA[],
    consents BYTEA[], consent_accounts BIGINT[], kinds BIGINT[], texts BYTEA[], languages TEXT[], given BIGINT[],
    expire BIGINT[], one_time BOOLEAN[], used BYTEA[], now BIGINT
) RETURNS BOOLEAN LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT append_at(epoch, log, generation, before, size, frontier, number, body, hashes, sealed, ids) THEN
        RETURN FALSE;
    END IF;
    IF cardinality(tokens) > 0 THEN
        INSERT INTO session (token, account_id, frontend, card_key, card_issuer, sealed_card, proof_sha256, sealed_proof,
                             logged_in_at, last_used_at, ended, closed)
            SELECT opened.*, now, now, FALSE, FALSE
            FROM unnest(tokens, accounts, frontends, card_keys, issuers, cards, proofs_sha256, proofs) AS opened;
    END IF;
    IF cardinality(consents) > 0 THEN
        INSERT INTO consent (id, account_id, kind, text_sha256, language, given_at, expires_at, one_time, state)
            SELECT opened.*, 'GIVEN'
            FROM unnest(consents, consent_accounts, kinds, texts, languages, given, expire, one_time) AS opened;
    END IF;
    PERFORM mark_used(used, now);
    RETURN TRUE;
END
$$;

-- What requesters close in one statement, which has the gate alone and makes the epoch. What was open when it was read is closed, or
-- nothing is (KR001).
CREATE FUNCTION close_at(
    in_epoch BIGINT, log TEXT, generation BIGINT, before BIGINT, size BIGINT, frontier BYTEA,
    number BIGINT, body BYTEA, hashes BYTEA, sealed BYTEA, ids BYTEA[],
    sessions BYTEA[], consents BYTEA[], used BYTEA[], now BIGINT
) RETURNS BOOLEAN LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    changed BIGINT;
BEGIN
    -- Not waited for: others of this process wait meanwhile, who need not.
    IF NOT pg_try_advisory_xact_lock(7236837466) THEN
        RETURN FALSE;
    END IF;
    UPDATE gate SET epoch = in_epoch WHERE one = 1 AND epoch = in_epoch - 1;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    IF NOT append_at(in_epoch, log, generation, before, size, frontier, number, body, hashes, sealed, ids) THEN
        RAISE EXCEPTION 'the log has another end' USING ERRCODE = 'KR001';
    END IF;
    IF cardinality(sessions) > 0 THEN
        UPDATE session SET ended = TRUE, closed = TRUE WHERE NOT closed
            AND token IN (SELECT token FROM session WHERE token = ANY (sessions) ORDER BY token FOR NO KEY UPDATE);
        GET DIAGNOSTICS changed = ROW_COUNT;
        IF changed <> cardinality(sessions) THEN
            RAISE EXCEPTION 'a session was closed before' USING ERRCODE = 'KR001';
        END IF;
    END IF;
    IF cardinality(consents) > 0 THEN
        UPDATE consent SET state = 'WITHDRAWN', withdrawn_at = now WHERE state = 'GIVEN' AND id = ANY (consents);
        GET DIAGNOSTICS changed = ROW_COUNT;
        IF changed <> cardinality(consents) THEN
            RAISE EXCEPTION 'a consent is not given any more' USING ERRCODE = 'KR001';
        END IF;
    END IF;
    PERFORM mark_used(used, now);
    RETURN TRUE;
END
$$;
REVOKE EXECUTE ON FUNCTION mark_used, release_answers, open_at, close_at FROM PUBLIC;

-- What the running service may do, and what an auditor may. Neither changes or removes a bundle, an act or a closing.
GRANT SELECT ON _sqlx_migrations, gate_facts TO portal_gateway_service;
GRANT SELECT, UPDATE ON gate TO portal_gateway_service;
GRANT SELECT, INSERT ON bundle, act TO portal_gateway_service;
GRANT SELECT, INSERT, UPDATE ON database_identity, lookup_key, revocation_list, log_head, log_checkpoint, witnessed_log, retention_mark, closing, proposal
    TO portal_gateway_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON suspension, used_request_id TO portal_gateway_service;
GRANT SELECT, INSERT ON account, replaced_card TO portal_gateway_service;
GRANT SELECT, INSERT, UPDATE ON linkage, indexed_log, lost_answer_place TO portal_gateway_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON card, session, consent, challenge, provision_record TO portal_gateway_service;
GRANT SELECT, INSERT, DELETE ON block TO portal_gateway_service;
GRANT SELECT ON gate, log_head, log_checkpoint, witnessed_log, bundle TO portal_gateway_auditor;
GRANT EXECUTE ON FUNCTION append_at, mark_used, release_answers, open_at, close_at TO portal_gateway_service;
