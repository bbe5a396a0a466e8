-- The age that a policy lets a secret reach has a column of its own: notices are compared with it. Policies were written
-- as one JSON text with the same fields in the same order by every version before this one:
-- {"max_lifetime_ms":1,"max_age_ms":2,"never_expires_allowed":… What is taken off its left ends before the "g" of "age",
-- the digits begin seven letters later, and "null" has none. No function for JSON is the same in both databases.
ALTER TABLE policies ADD COLUMN max_age_ms BIGINT;
UPDATE policies SET max_age_ms = CAST(NULLIF(substr(
        substr(ltrim(text, '{"max_lifetime_ms":0123456789,'), 8), 1,
        length(substr(ltrim(text, '{"max_lifetime_ms":0123456789,'), 8))
        - length(ltrim(substr(ltrim(text, '{"max_lifetime_ms":0123456789,'), 8), '0123456789'))), '') AS BIGINT)
    WHERE text LIKE '{"max_lifetime_ms":%,"max_age_ms":%';

-- Messages that were not made because too many wait for their target: in all, and for a webhook.
CREATE TABLE outbox_dropped (
    channel TEXT PRIMARY KEY,
    count   BIGINT NOT NULL,
    last_at BIGINT NOT NULL
);
ALTER TABLE webhooks ADD COLUMN dropped_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE webhooks ADD COLUMN dropped_at BIGINT;

-- What a message tells besides the event that it is named by, where no other row says that it was told.
CREATE TABLE outbox_told (
    channel    TEXT NOT NULL,
    target     TEXT NOT NULL,
    event_id   TEXT NOT NULL,
    message_id TEXT NOT NULL,             -- goes when that goes
    PRIMARY KEY (channel, target, event_id)
);
CREATE INDEX outbox_told_by_message ON outbox_told (message_id);
