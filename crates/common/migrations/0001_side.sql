-- What both sides have: the gate's epoch, the audit log, suspensions, acts, used request ids.
-- Times are milliseconds since 1970-01-01T00:00:00Z.

CREATE TABLE gate (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    epoch INTEGER NOT NULL
) STRICT;
INSERT INTO gate (one, epoch) VALUES (1, 0);

-- What the look-up key makes of nothing: with another key nothing here would be found, suppressions among it.
CREATE TABLE lookup_key (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    fingerprint BLOB    NOT NULL
) STRICT;

CREATE TABLE log_head (
    log        TEXT    PRIMARY KEY,
    generation INTEGER NOT NULL,
    size       INTEGER NOT NULL,
    bundles    INTEGER NOT NULL
) STRICT;

CREATE TABLE bundle (
    log         TEXT    NOT NULL,
    number      INTEGER NOT NULL,
    first_index INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    body        BLOB    NOT NULL,
    PRIMARY KEY (log, number)
) STRICT;

-- kind 0 stands for all kinds.
CREATE TABLE suspension (
    kind  INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    since INTEGER NOT NULL
) STRICT;

CREATE TABLE resume_proposal (
    kind       INTEGER PRIMARY KEY,
    proposer   TEXT    NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

-- Acts that were done, so that one sent again changes nothing.
CREATE TABLE act (
    id      BLOB    PRIMARY KEY,
    content BLOB    NOT NULL,
    epoch   INTEGER NOT NULL
) STRICT;

CREATE TABLE used_request_id (
    id      BLOB    PRIMARY KEY,
    used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX used_request_id_at ON used_request_id (used_at);
