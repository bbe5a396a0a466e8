-- Fewer index entries for each new key, and indexes that answer by themselves what lists and counts ask.

-- Nearly every key works until its newest secret ends: the index of that end serves both, and the few others have
-- one of their own. With `revoked_at`, though it is always null there: SQLite looks for it in the row otherwise.
DROP INDEX api_keys_by_end;
CREATE INDEX api_keys_by_other_end ON api_keys (works_until, expires_order, revoked_at, id)
    WHERE works_until <> expires_order AND revoked_at IS NULL;

-- With what counts by state ask of these keys, so that none of their rows is read.
DROP INDEX api_keys_revoked;
CREATE INDEX api_keys_revoked ON api_keys (revoked_at, expires_order, rotating_until, id) WHERE revoked_at IS NOT NULL;
DROP INDEX api_keys_disabled;
CREATE INDEX api_keys_disabled ON api_keys (disabled_at, works_until, rotating_until, revoked_at, id)
    WHERE disabled_at IS NOT NULL AND revoked_at IS NULL;
CREATE INDEX principals_off ON principals (id) WHERE disabled_at IS NOT NULL OR keys_revoked_at IS NOT NULL;
