-- A scheduled rotation that a rule refused stays due, is tried again at a moment of its own, and says why.
ALTER TABLE schedules ADD COLUMN retry_at BIGINT;
ALTER TABLE schedules ADD COLUMN last_error TEXT;
