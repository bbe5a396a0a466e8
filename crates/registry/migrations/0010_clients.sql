-- What an administrator ends of a client, and the tokens with which programs register themselves.

-- A client's own access tokens carry the name of their series; another series begins when one is ended.
ALTER TABLE clients ADD COLUMN token_series TEXT NOT NULL DEFAULT '';
-- Id of the registration token that made it; none for those that a person added.
ALTER TABLE clients ADD COLUMN registered_by TEXT;

-- Initial access tokens (RFC 7591 §3). Of the token there is a SHA-256 only.
CREATE TABLE registration_tokens (
    id         TEXT PRIMARY KEY,
    digest     BLOB NOT NULL UNIQUE,
    note       TEXT NOT NULL,
    made_by    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    max_uses   BIGINT NOT NULL,
    uses       BIGINT NOT NULL DEFAULT 0,
    ended_at   BIGINT
);
CREATE INDEX registration_tokens_by_time ON registration_tokens (created_at, id);

-- argon2id (PHC text) of a secret that a person chose; its digest is of nothing then. Random secrets have their digest only.
ALTER TABLE client_secrets ADD COLUMN hash TEXT;
