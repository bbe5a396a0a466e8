-- Keys that an operation over many could not change, in the order in which it came to them. The first of them stand with
-- the operation too.
CREATE TABLE bulk_failures (
    operation_id TEXT NOT NULL,
    number       BIGINT NOT NULL,       -- from 0
    key_id       TEXT NOT NULL,
    code         TEXT NOT NULL,
    message      TEXT NOT NULL,
    PRIMARY KEY (operation_id, number)
);
