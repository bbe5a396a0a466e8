-- Several servers over one database: who is there and how far each has read the log of changes, who carries out
-- which job, and what was used once wherever it came. Types as in 0001.

-- One row a process that serves; times are those of the database's own clock. Used on PostgreSQL only: a file has
-- one serving process.
CREATE TABLE nodes (
    id           TEXT PRIMARY KEY,  -- new with each start
    name         TEXT NOT NULL,     -- for people
    started_at   BIGINT NOT NULL,
    heartbeat_at BIGINT NOT NULL,
    applied      BIGINT NOT NULL    -- every change up to this one is in its memory
);

-- What one node at a time does now and then.
CREATE TABLE jobs (
    name    TEXT PRIMARY KEY,
    node    TEXT NOT NULL,          -- who took it last
    took_at BIGINT NOT NULL,
    next_at BIGINT NOT NULL
);

-- Proofs, assertions and challenges that are good for one use, by their SHA-256, until they are good for none.
CREATE TABLE used_once (
    name       TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE INDEX used_once_by_expiry ON used_once (expires_at);
