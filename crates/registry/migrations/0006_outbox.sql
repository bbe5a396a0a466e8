-- What is told to others: webhooks, and the messages that wait to be sent or were. Types as in 0003. What is secret,
-- and what mail says, was sealed by the caller.

CREATE TABLE webhooks (
    id                TEXT PRIMARY KEY,
    url               TEXT NOT NULL,
    events            TEXT NOT NULL,      -- names, one space between; '*' for all
    description       TEXT NOT NULL,
    sealed_secret     BLOB NOT NULL,
    sealed_old_secret BLOB,               -- signs as well, for a while after a new one was made
    old_secret_until  BIGINT NOT NULL DEFAULT 0,
    created_by        TEXT NOT NULL,
    created_at        BIGINT NOT NULL,
    changed_at        BIGINT NOT NULL,
    failing_since     BIGINT,             -- the first failure since anything was delivered
    disabled_at       BIGINT,
    disabled_reason   TEXT
);

CREATE TABLE outbox (
    id            TEXT PRIMARY KEY,
    event_id      TEXT NOT NULL,
    event_type    TEXT NOT NULL,
    channel       TEXT NOT NULL,          -- webhook, mail or logout
    target        TEXT NOT NULL,          -- a webhook's id, an address, a client's id
    body          BLOB NOT NULL,
    made_at       BIGINT NOT NULL,
    due_at        BIGINT NOT NULL,        -- the next try
    claimed_until BIGINT NOT NULL,        -- one node sends it until then
    attempts      BIGINT NOT NULL,
    state         TEXT NOT NULL,          -- waiting, delivered or failed
    ended_at      BIGINT,
    UNIQUE (channel, target, event_id)    -- nobody is told the same twice
);
CREATE INDEX outbox_due ON outbox (due_at, id) WHERE state = 'waiting';
CREATE INDEX outbox_by_target ON outbox (channel, target, made_at, id);
CREATE INDEX outbox_waiting ON outbox (channel, target) WHERE state = 'waiting';
CREATE INDEX outbox_ended ON outbox (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE outbox_attempts (
    message_id  TEXT NOT NULL REFERENCES outbox (id),
    attempt     BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    status      BIGINT,                   -- of HTTP; null where nobody answered
    error       TEXT,
    excerpt     TEXT NOT NULL,            -- the beginning of the answer
    PRIMARY KEY (message_id, attempt)
);

-- How far the audit trail was read for messages. What happened before this version is not told.
CREATE TABLE outbox_feed (
    id             BIGINT PRIMARY KEY,
    audit_sequence BIGINT NOT NULL
);
INSERT INTO outbox_feed (id, audit_sequence) SELECT 1, audit_sequence FROM heads WHERE id = 1;

-- How much of an alert was told, and when.
ALTER TABLE alerts ADD COLUMN told_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE alerts ADD COLUMN told_at BIGINT NOT NULL DEFAULT 0;
UPDATE alerts SET told_count = count;
CREATE INDEX alerts_untold ON alerts (told_at, id) WHERE told_count < count;

-- Administrators manage webhooks.
UPDATE roles SET permissions = permissions || ' webhooks:*' 
    WHERE name = 'admin' AND permissions NOT LIKE '%webhooks:*%';
UPDATE principals SET permissions = permissions || ' webhooks:*'
    WHERE id IN (SELECT user_id FROM user_roles WHERE role = 'admin') AND permissions NOT LIKE '%*:*%'
    AND permissions NOT LIKE '%webhooks:*%';
