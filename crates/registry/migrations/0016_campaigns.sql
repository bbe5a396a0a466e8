-- Campaigns of hygiene: each asks the owners of keys to keep or to retire them.
CREATE TABLE hygiene_campaigns (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    findings     TEXT NOT NULL,         -- with spaces between
    idle_days    BIGINT NOT NULL,
    window_days  BIGINT NOT NULL,
    networks     BIGINT NOT NULL,
    environment  TEXT NOT NULL,         -- empty for every one
    unanswered   TEXT NOT NULL,         -- leave, or disable at the due date
    created_by   TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    due_at       BIGINT NOT NULL,
    cancelled_at BIGINT,
    closed_at    BIGINT,                -- what was due was done
    last_change  BIGINT NOT NULL        -- newest change of a key that it made; 0 for none
);
CREATE INDEX hygiene_campaigns_by_time ON hygiene_campaigns (created_at, id);
CREATE INDEX hygiene_campaigns_running ON hygiene_campaigns (due_at, id)
    WHERE closed_at IS NULL AND cancelled_at IS NULL;

CREATE TABLE hygiene_questions (
    campaign_id TEXT NOT NULL REFERENCES hygiene_campaigns (id),
    key_id      ORDERED_TEXT NOT NULL REFERENCES api_keys (id),
    owner_id    TEXT NOT NULL,
    findings    TEXT NOT NULL,
    state       TEXT NOT NULL,
    asked_at    BIGINT NOT NULL,
    told_at     BIGINT,
    answered_at BIGINT,
    answered_by TEXT,
    reason      TEXT NOT NULL,
    keep_until  BIGINT,
    how         TEXT,                   -- revoke or disable
    settled_at  BIGINT,
    PRIMARY KEY (campaign_id, key_id)
);
CREATE INDEX hygiene_questions_by_key ON hygiene_questions (key_id);
CREATE INDEX hygiene_questions_waiting ON hygiene_questions (owner_id, asked_at, key_id)
    WHERE state IN ('open', 'keep', 'retire') AND settled_at IS NULL;
CREATE INDEX hygiene_questions_untold ON hygiene_questions (campaign_id, owner_id, key_id)
    WHERE told_at IS NULL;

-- Scopes that a rotation took from its key: they come back with the old secret.
ALTER TABLE rotations ADD COLUMN scopes_before TEXT;
ALTER TABLE rotations ADD COLUMN scopes_after TEXT;
