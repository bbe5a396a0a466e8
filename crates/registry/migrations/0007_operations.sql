-- What programs ask for again: issues by their idempotency key, and operations over many keys.

CREATE TABLE idempotency_keys (
    actor   TEXT NOT NULL,
    name    TEXT NOT NULL,             -- what the caller sent as Idempotency-Key
    request BLOB NOT NULL,             -- SHA-256 of what was asked for
    key_id  TEXT NOT NULL,             -- what came of it
    at      BIGINT NOT NULL,
    PRIMARY KEY (actor, name)
);
CREATE INDEX idempotency_keys_by_time ON idempotency_keys (at);

CREATE TABLE bulk_operations (
    id          TEXT PRIMARY KEY,
    actor       TEXT NOT NULL,
    operation   TEXT NOT NULL,
    total       BIGINT NOT NULL,
    done        BIGINT NOT NULL,       -- keys that were looked at
    changed     BIGINT NOT NULL,
    failed      BIGINT NOT NULL,
    failures    TEXT NOT NULL,         -- JSON: the first of them, each with its reason
    state       TEXT NOT NULL,         -- running, done, cancelled, stopped
    cancel_asked BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL,       -- whoever carries it out says so every few seconds
    finished_at BIGINT
);
CREATE INDEX bulk_operations_by_time ON bulk_operations (created_at, id);
