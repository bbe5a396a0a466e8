-- Identities signed in on this device. No token is ever in here.
CREATE TABLE accounts (
    id                TEXT PRIMARY KEY,
    provider_id       TEXT NOT NULL,
    issuer            TEXT NOT NULL,
    subject           TEXT NOT NULL,
    client_id         TEXT NOT NULL,
    display_name      TEXT NOT NULL,
    email             TEXT,
    email_verified    BIGINT NOT NULL,
    scopes            TEXT NOT NULL,
    missing_scopes    TEXT NOT NULL,
    in_keychain       BIGINT NOT NULL,
    identity_verified BIGINT NOT NULL,
    signed_in_at      BIGINT NOT NULL,
    last_refreshed_at BIGINT,
    UNIQUE (issuer, subject, client_id)
);
