-- Requests that are answered later (RFC 7240, section 4.1) stand beside operations over many keys.
ALTER TABLE bulk_operations ADD COLUMN later BIGINT NOT NULL DEFAULT 0;
-- JSON, once it has ended: what the request would have been answered with, and why it ended before its end.
ALTER TABLE bulk_operations ADD COLUMN answer TEXT;
ALTER TABLE bulk_operations ADD COLUMN problem TEXT;
