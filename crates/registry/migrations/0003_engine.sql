-- The whole engine: owners, settings, rotations with clocks, policies, schedules, rollups, the chained audit and the
-- ordered log of changes. Types as in 0001; ORDERED_TEXT compares by bytes on both databases.

-- One row: whoever writes locks it first, so that numbers are given in the order of commits.
CREATE TABLE heads (
    id             BIGINT PRIMARY KEY,
    registry_id    TEXT NOT NULL,
    writes         BIGINT NOT NULL,
    audit_sequence BIGINT NOT NULL,
    audit_hash     BLOB,              -- null until the rows of older schemas are chained
    change_version BIGINT NOT NULL,   -- newest in `changes`; every key carries the one of its last change
    oldest_change  BIGINT NOT NULL    -- changes before this one were pruned
);
INSERT INTO heads (id, registry_id, writes, audit_sequence, audit_hash, change_version, oldest_change)
SELECT 1, '', 0, (SELECT COALESCE(MAX(sequence), 0) FROM audit_events), NULL,
       (SELECT COALESCE(MAX(epoch), 0) FROM api_keys), (SELECT COALESCE(MAX(epoch), 0) FROM api_keys) + 1;

CREATE TABLE changes (
    version BIGINT PRIMARY KEY,
    at      BIGINT NOT NULL,
    kind    TEXT NOT NULL,            -- api_key, principal or everything
    subject TEXT NOT NULL
);

-- Who keys belong to and who made them: people, services, teams. People have more in tables of their own.
CREATE TABLE principals (
    id                  TEXT PRIMARY KEY,
    kind                TEXT NOT NULL,
    name                TEXT NOT NULL,
    permissions         TEXT NOT NULL, -- scopes: what a key made by it can do at most
    disabled_at         BIGINT,
    disabled_reason     TEXT,
    keys_revoked_at     BIGINT,        -- keys created until then are revoked, all at once
    keys_revoked_reason TEXT,
    created_at          BIGINT NOT NULL,
    epoch               BIGINT NOT NULL
);
INSERT INTO principals (id, kind, name, permissions, created_at, epoch)
VALUES ('local', 'person', 'This device', '*:*', 0, 0);

ALTER TABLE api_keys ADD COLUMN environment TEXT NOT NULL DEFAULT 'live';
ALTER TABLE api_keys ADD COLUMN owner_id TEXT NOT NULL DEFAULT 'local';
ALTER TABLE api_keys ADD COLUMN owner_kind TEXT NOT NULL DEFAULT 'person';
ALTER TABLE api_keys ADD COLUMN creator_id TEXT;
ALTER TABLE api_keys ADD COLUMN not_before BIGINT;
ALTER TABLE api_keys ADD COLUMN disabled_at BIGINT;
ALTER TABLE api_keys ADD COLUMN disabled_reason TEXT;
ALTER TABLE api_keys ADD COLUMN exposed_at BIGINT;
ALTER TABLE api_keys ADD COLUMN limits TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN networks TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN origins TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN tags TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN note TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN metadata TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN one_time BIGINT NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN canary BIGINT NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN credit_plan TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN promoted_to TEXT;      -- the remote registry that a key was moved to
ALTER TABLE api_keys ADD COLUMN name_key ORDERED_TEXT NOT NULL DEFAULT '';
UPDATE api_keys SET name_key = name_order;
UPDATE api_keys SET environment = 'test' WHERE prefix LIKE '%\_test' ESCAPE '\';
DROP INDEX api_keys_by_name;
ALTER TABLE api_keys DROP COLUMN name_order;
CREATE INDEX api_keys_by_name ON api_keys (name_key, id);
CREATE INDEX api_keys_by_owner ON api_keys (owner_id, created_at, id);

-- Debited exactly, one row a key that has credits.
CREATE TABLE credits (
    key_id      TEXT PRIMARY KEY REFERENCES api_keys (id),
    remaining   BIGINT NOT NULL,
    refilled_at BIGINT NOT NULL
);

ALTER TABLE secrets ADD COLUMN pending_until BIGINT;
ALTER TABLE secrets ADD COLUMN activated_at BIGINT;
ALTER TABLE secrets ADD COLUMN ended_at BIGINT;        -- when it was retired, revoked or cancelled by hand
ALTER TABLE secrets ADD COLUMN ended_reason TEXT;
-- For the question whether a pepper is still needed.
CREATE INDEX secrets_by_pepper ON secrets (pepper_id, stored);
-- Keys of other makers have no kid of ours in their text: they are found by what is stored of them.
CREATE UNIQUE INDEX secrets_by_foreign_mac ON secrets (mac) WHERE algorithm <> 'hmac-sha256-of-sha256';

-- `idempotency_key` is the rotation's id: one name for one thing, chosen by whoever asks.
ALTER TABLE rotations ADD COLUMN old_kid TEXT;
ALTER TABLE rotations ADD COLUMN overlap_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE rotations ADD COLUMN clock TEXT NOT NULL DEFAULT 'from_issue';
ALTER TABLE rotations ADD COLUMN state TEXT NOT NULL DEFAULT 'overlapping';
ALTER TABLE rotations ADD COLUMN requested_by TEXT NOT NULL DEFAULT '';
ALTER TABLE rotations ADD COLUMN reason TEXT;
ALTER TABLE rotations ADD COLUMN activated_at BIGINT;
ALTER TABLE rotations ADD COLUMN ended_at BIGINT;
ALTER TABLE rotations ADD COLUMN ended_by TEXT;        -- drained, overlap, a person's name
CREATE INDEX rotations_by_key ON rotations (key_id, created_at);
-- For removing secrets: whether a rotation refers to one.
CREATE INDEX rotations_by_kid ON rotations (kid);
CREATE INDEX rotations_open ON rotations (created_at) WHERE ended_at IS NULL;

CREATE TABLE policies (
    environment TEXT PRIMARY KEY,      -- '*' for every environment without one of its own
    text        TEXT NOT NULL,
    changed_at  BIGINT NOT NULL
);

-- Who used which secret, by the hour.
CREATE TABLE use_rollups (
    kid          TEXT NOT NULL REFERENCES secrets (kid),
    hour         BIGINT NOT NULL,      -- Unix ms of its beginning
    client_label TEXT NOT NULL,
    network      TEXT NOT NULL,
    agent        TEXT NOT NULL,
    route        TEXT NOT NULL,
    scope        TEXT NOT NULL,        -- what was required, '' for nothing
    origin       TEXT NOT NULL,
    count        BIGINT NOT NULL,
    last_at      BIGINT NOT NULL,
    PRIMARY KEY (kid, hour, client_label, network, agent, route, scope, origin)
);
CREATE INDEX use_rollups_by_hour ON use_rollups (hour);

-- What somebody should look at: use of an ended secret, a canary, a failed delivery, an exposed key.
CREATE TABLE alerts (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL,
    key_id     TEXT NOT NULL,
    kid        TEXT NOT NULL,
    caller     TEXT NOT NULL,
    count      BIGINT NOT NULL,
    first_at   BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    seen_at    BIGINT,
    UNIQUE (kind, kid, caller)
);
CREATE INDEX alerts_by_time ON alerts (last_at, id);
CREATE INDEX alerts_unseen ON alerts (last_at, id) WHERE seen_at IS NULL;

CREATE TABLE schedules (
    id          TEXT PRIMARY KEY,
    key_id      TEXT NOT NULL UNIQUE REFERENCES api_keys (id),
    text        TEXT NOT NULL,
    anchor_at   BIGINT NOT NULL,
    next_due_at BIGINT NOT NULL,
    delivery    TEXT NOT NULL,         -- where the new secret goes, '' for nowhere
    paused_at   BIGINT,
    changed_at  BIGINT NOT NULL
);
CREATE INDEX schedules_by_due ON schedules (next_due_at);

CREATE TABLE notices (
    id         TEXT PRIMARY KEY,
    key_id     TEXT NOT NULL REFERENCES api_keys (id),
    subject    TEXT NOT NULL,          -- rotation or expiry
    kid        TEXT NOT NULL,
    due_at     BIGINT NOT NULL,
    kind       TEXT NOT NULL,          -- days_30 … overdue
    made_at    BIGINT NOT NULL,
    passed     BIGINT NOT NULL,        -- 1: a later one was due before this could be sent
    claimed_until BIGINT NOT NULL,     -- one node sends it until then; a failed one waits until then
    attempts   BIGINT NOT NULL,
    sent_at    BIGINT,
    channel    TEXT,
    error      TEXT,
    UNIQUE (key_id, subject, kid, due_at, kind)
);
CREATE INDEX notices_unsent ON notices (made_at) WHERE sent_at IS NULL AND passed = 0;

CREATE TABLE deliveries (
    id          TEXT PRIMARY KEY,
    rotation_id TEXT NOT NULL,
    kid         TEXT NOT NULL,
    target      TEXT NOT NULL,
    state       TEXT NOT NULL,         -- delivered or failed
    error       TEXT,
    at          BIGINT NOT NULL
);
CREATE INDEX deliveries_by_rotation ON deliveries (rotation_id, at);

ALTER TABLE audit_events ADD COLUMN hash BLOB;

CREATE TABLE audit_checkpoints (
    sequence   BIGINT PRIMARY KEY,
    hash       BLOB NOT NULL,
    at         BIGINT NOT NULL,
    key_id     TEXT NOT NULL,
    signature  BLOB NOT NULL,
    pruned     BIGINT NOT NULL DEFAULT 0  -- 1: the events up to here were pruned by policy
);

-- Rotations of older versions: their clock ran from the issue of the new secret.
-- What it replaced is the newest before it that was not cancelled.
UPDATE rotations SET old_kid = (SELECT old.kid FROM secrets old JOIN secrets new ON new.key_id = old.key_id
    WHERE new.kid = rotations.kid AND old.position < new.position AND old.stored <> 'aborted'
    ORDER BY old.position DESC LIMIT 1);
UPDATE rotations SET activated_at = (SELECT first_used_at FROM secrets WHERE secrets.kid = rotations.kid);
UPDATE secrets SET activated_at = first_used_at
    WHERE position > 0 AND stored <> 'pending' AND kid IN (SELECT kid FROM rotations);
UPDATE rotations SET state = 'pending'
    WHERE kid IN (SELECT kid FROM secrets WHERE stored = 'pending');
UPDATE rotations SET state = 'complete', ended_at = created_at, ended_by = 'superseded'
    WHERE EXISTS (SELECT 1 FROM secrets one JOIN secrets later ON later.key_id = one.key_id
                  AND later.position > one.position WHERE one.kid = rotations.kid)
       OR key_id IN (SELECT id FROM api_keys WHERE revoked_at IS NOT NULL);
-- A secret that was cancelled, or revoked before anybody used it, replaced nothing.
UPDATE rotations SET state = 'cancelled'
    WHERE state = 'complete' AND kid IN (SELECT kid FROM secrets
        WHERE stored = 'aborted' OR (stored = 'revoked' AND first_used_at IS NULL));

-- Lists and search. What time does to a key is in these columns: a key verifies until `works_until`, rotates until
-- `rotating_until`, has a pending secret until `pending_until` (0: not at all; 9223372036854775807: for ever).
ALTER TABLE api_keys ADD COLUMN works_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN rotating_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN pending_until BIGINT NOT NULL DEFAULT 0;
CREATE TABLE secret_ends AS SELECT key_id, stored,
    CASE WHEN stored = 'retiring' AND retires_at < COALESCE(expires_at, 9223372036854775807) THEN retires_at
         ELSE COALESCE(expires_at, 9223372036854775807) END AS works_until
    FROM secrets WHERE stored IN ('pending', 'active', 'retiring');
CREATE INDEX secret_ends_by_key ON secret_ends (key_id, works_until);
UPDATE api_keys SET
    works_until = COALESCE((SELECT MAX(e.works_until) FROM secret_ends e WHERE e.key_id = api_keys.id), 0),
    rotating_until = COALESCE((SELECT e.works_until FROM secret_ends e WHERE e.key_id = api_keys.id
                               ORDER BY e.works_until DESC LIMIT 1 OFFSET 1), 0),
    pending_until = COALESCE((SELECT MAX(e.works_until) FROM secret_ends e WHERE e.key_id = api_keys.id
                              AND e.stored = 'pending'), 0);
DROP TABLE secret_ends;
CREATE INDEX api_keys_by_end ON api_keys (works_until, id);
CREATE INDEX api_keys_by_environment ON api_keys (environment, created_at, id);
CREATE INDEX api_keys_by_prefix ON api_keys (prefix, created_at, id);
CREATE INDEX api_keys_rotating ON api_keys (rotating_until, id) WHERE rotating_until > 0;
CREATE INDEX api_keys_pending ON api_keys (pending_until, id) WHERE pending_until > 0;
CREATE INDEX api_keys_revoked ON api_keys (revoked_at, id) WHERE revoked_at IS NOT NULL;
CREATE INDEX api_keys_disabled ON api_keys (disabled_at, id) WHERE disabled_at IS NOT NULL;
CREATE INDEX api_keys_with_wildcards ON api_keys (id) WHERE scopes LIKE '%*%';
-- Keys whose text the search index does not know yet (SQLite; on PostgreSQL it is written at once, and this is empty).
CREATE TABLE api_key_search_pending (
    sequence INTEGER PRIMARY KEY,
    key_id   TEXT NOT NULL
);
