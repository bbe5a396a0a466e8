-- Requests that take several transactions: who carries one out, until when nobody else does, and what
-- was answered. What is done in one transaction has neither.

ALTER TABLE idempotency_keys ADD COLUMN under_way_until BIGINT;
ALTER TABLE idempotency_keys ADD COLUMN answer TEXT;
