-- A receipt of an operation over many keys is the receipt of the newest change that it made.
ALTER TABLE bulk_operations ADD COLUMN last_change BIGINT NOT NULL DEFAULT 0;
