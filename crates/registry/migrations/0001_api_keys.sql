-- Times are Unix milliseconds. The text runs on SQLite and, with BLOB read as BYTEA, on PostgreSQL.
CREATE TABLE peppers (
    id         TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE scopes (
    name        TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    low_risk    BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL,
    prefix          TEXT NOT NULL,
    scopes          TEXT NOT NULL,
    epoch           BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    revoked_at      BIGINT,
    revoked_reason  TEXT,
    -- What lists filter and sort by, written with every change of the key.
    name_order      TEXT NOT NULL,
    search_text     TEXT NOT NULL,
    kid             TEXT NOT NULL,
    last_four       TEXT NOT NULL,
    expires_order   BIGINT NOT NULL,  -- 9223372036854775807 for never
    old_works_until BIGINT NOT NULL,  -- 0 for no overlap
    last_used_order BIGINT NOT NULL   -- 0 for never used
);
CREATE INDEX api_keys_by_created ON api_keys (created_at, id);
CREATE INDEX api_keys_by_name ON api_keys (name_order, id);
CREATE INDEX api_keys_by_expiry ON api_keys (expires_order, id);
CREATE INDEX api_keys_by_last_use ON api_keys (last_used_order, id);

CREATE TABLE secrets (
    kid           TEXT PRIMARY KEY,
    key_id        TEXT NOT NULL REFERENCES api_keys (id),
    position      BIGINT NOT NULL,
    mac           BLOB NOT NULL,      -- HMAC-SHA-256(pepper, SHA-256(key)); never the key
    algorithm     TEXT NOT NULL,
    pepper_id     TEXT NOT NULL REFERENCES peppers (id),
    last_four     TEXT NOT NULL,
    stored        TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT,
    retires_at    BIGINT,
    first_used_at BIGINT,
    last_used_at  BIGINT,
    use_count     BIGINT NOT NULL,
    UNIQUE (key_id, position)
);

CREATE TABLE rotations (
    idempotency_key TEXT PRIMARY KEY,
    key_id          TEXT NOT NULL REFERENCES api_keys (id),
    kid             TEXT NOT NULL REFERENCES secrets (kid),
    created_at      BIGINT NOT NULL
);

CREATE TABLE audit_events (
    sequence    BIGINT PRIMARY KEY,
    at          BIGINT NOT NULL,
    action      TEXT NOT NULL,
    actor       TEXT NOT NULL,
    target_kind TEXT NOT NULL,
    target_id   TEXT NOT NULL,
    target_name TEXT NOT NULL,
    summary     TEXT NOT NULL,
    details     TEXT NOT NULL,
    search_text TEXT NOT NULL
);
CREATE INDEX audit_events_by_target ON audit_events (target_kind, target_id, sequence);
