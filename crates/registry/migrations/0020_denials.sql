-- The number of the write that denied: a server reads what is new, and not each time all that is denied. Older rows
-- have none; they are read with everything, when a server starts.
ALTER TABLE denials ADD COLUMN written BIGINT NOT NULL DEFAULT 0;
CREATE INDEX denials_by_writing ON denials (written, kind, value);
