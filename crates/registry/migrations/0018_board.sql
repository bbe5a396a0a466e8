-- The notice board: what people are told, for those who look. One row a matter, which is the newest of it. What
-- happened before this version is not on it.
CREATE TABLE board (
    matter   TEXT PRIMARY KEY,          -- what it is about: news of the same matter take its place
    event_id TEXT NOT NULL,             -- the same news are not put up twice
    sequence BIGINT NOT NULL UNIQUE,    -- in the order of commits
    kind     TEXT NOT NULL,
    at       BIGINT NOT NULL,
    key_id   TEXT,                      -- null for what is about no key
    owner_id TEXT,                      -- whose it is to hear; null for those who see everything
    name     TEXT NOT NULL,             -- of what is no key
    kid      TEXT NOT NULL,             -- empty for none
    due_at   BIGINT,
    count    BIGINT NOT NULL,
    detail   TEXT NOT NULL
);
CREATE INDEX board_by_owner ON board (owner_id, sequence);
CREATE INDEX board_by_key ON board (key_id);
CREATE INDEX board_by_time ON board (at);

-- One row: the newest number that was given. It never goes back, whatever is removed.
CREATE TABLE board_head (
    id       BIGINT PRIMARY KEY,
    sequence BIGINT NOT NULL
);
INSERT INTO board_head (id, sequence) VALUES (1, 0);

-- How far somebody has read, and what they read beyond that.
CREATE TABLE board_readers (
    reader     TEXT PRIMARY KEY,
    read_until BIGINT NOT NULL
);
CREATE TABLE board_reads (
    reader   TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    PRIMARY KEY (reader, sequence)
);
CREATE INDEX board_reads_by_sequence ON board_reads (sequence);
