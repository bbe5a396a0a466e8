-- People and what acts for them: users, roles, sessions, clients, grants, signing keys, identity providers.
-- Types as in 0003. Of every token of ours there is a SHA-256 only; what must be read again was sealed by the caller.

CREATE TABLE roles (
    name        ORDERED_TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    permissions TEXT NOT NULL,         -- scopes
    built_in    BIGINT NOT NULL,
    created_at  BIGINT NOT NULL
);
INSERT INTO roles (name, description, permissions, built_in, created_at) VALUES
    ('owner', 'May do everything', '*:*', 1, 0),
    ('admin', 'Manages people, clients, keys and sessions',
     'audit:read clients:* keys:* policies:* providers:* roles:read scopes:* sessions:* users:*', 1, 0),
    ('key-admin', 'Issues, rotates and revokes API keys', 'audit:read keys:* policies:read scopes:read', 1, 0),
    ('auditor', 'Sees everything, changes nothing', '*:read', 1, 0),
    ('member', 'Uses what others set up', 'keys:read keys:verify scopes:read', 1, 0);

CREATE TABLE users (
    id                  TEXT PRIMARY KEY REFERENCES principals (id),
    email               TEXT UNIQUE,   -- trimmed, small letters
    email_verified      BIGINT NOT NULL,
    password_hash       TEXT,          -- PHC text of argon2id
    password_changed_at BIGINT,
    failed_count        BIGINT NOT NULL DEFAULT 0,
    locked_until        BIGINT,
    last_sign_in_at     BIGINT,
    created_at          BIGINT NOT NULL,
    name_key            ORDERED_TEXT NOT NULL,
    search_text         TEXT NOT NULL
);
CREATE INDEX users_by_created ON users (created_at, id);
CREATE INDEX users_by_name ON users (name_key, id);

CREATE TABLE user_roles (
    user_id    TEXT NOT NULL REFERENCES users (id),
    role       ORDERED_TEXT NOT NULL REFERENCES roles (name),
    granted_at BIGINT NOT NULL,
    granted_by TEXT NOT NULL,
    PRIMARY KEY (user_id, role)
);
CREATE INDEX user_roles_by_role ON user_roles (role, user_id);

CREATE TABLE invitations (
    id           TEXT PRIMARY KEY,
    digest       BLOB NOT NULL UNIQUE,
    email        TEXT NOT NULL,
    roles        TEXT NOT NULL,
    invited_by   TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    accepted_at  BIGINT,
    accepted_by  TEXT,
    withdrawn_at BIGINT
);
CREATE INDEX invitations_by_created ON invitations (created_at, id);
CREATE INDEX invitations_by_expiry ON invitations (expires_at);

CREATE TABLE totp (
    user_id      TEXT PRIMARY KEY REFERENCES users (id),
    sealed       BLOB NOT NULL,
    created_at   BIGINT NOT NULL,
    confirmed_at BIGINT,
    last_step    BIGINT NOT NULL        -- a step is accepted once
);

CREATE TABLE recovery_codes (
    id         TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES users (id),
    hash       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at    BIGINT
);
CREATE INDEX recovery_codes_by_user ON recovery_codes (user_id, id);

CREATE TABLE passkeys (
    credential_id BLOB PRIMARY KEY,
    user_id       TEXT NOT NULL REFERENCES users (id),
    public_key    BLOB NOT NULL,
    sign_count    BIGINT NOT NULL,
    transports    TEXT NOT NULL,
    name          TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    last_used_at  BIGINT,
    suspect_at    BIGINT                -- it counted backwards
);
CREATE INDEX passkeys_by_user ON passkeys (user_id, created_at);

CREATE TABLE sessions (
    id               TEXT PRIMARY KEY,
    digest           BLOB NOT NULL UNIQUE,
    user_id          TEXT NOT NULL REFERENCES users (id),
    created_at       BIGINT NOT NULL,
    authenticated_at BIGINT NOT NULL,
    last_seen_at     BIGINT NOT NULL,
    idle_ms          BIGINT NOT NULL,
    expires_at       BIGINT NOT NULL,
    gone_at          BIGINT NOT NULL,   -- when it ended, or will if nobody comes back
    acr              TEXT NOT NULL,
    amr              TEXT NOT NULL,
    user_agent       TEXT NOT NULL,
    network          TEXT NOT NULL,
    ended_at         BIGINT,
    ended_by         TEXT,
    end_reason       TEXT
);
CREATE INDEX sessions_by_user ON sessions (user_id, created_at, id);
CREATE INDEX sessions_running_out ON sessions (gone_at) WHERE ended_at IS NULL;
CREATE INDEX sessions_ended ON sessions (ended_at, id) WHERE ended_at IS NOT NULL;

-- Clients that were signed in through a session: they are told when it ends.
CREATE TABLE session_clients (
    session_id TEXT NOT NULL,
    client_id  TEXT NOT NULL,
    first_at   BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    PRIMARY KEY (session_id, client_id)
);

CREATE TABLE sign_ins (
    id         TEXT PRIMARY KEY,
    at         BIGINT NOT NULL,
    user_id    TEXT,
    identifier TEXT NOT NULL,           -- what was typed
    method     TEXT NOT NULL,
    outcome    TEXT NOT NULL,           -- succeeded, or why not
    network    TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    session_id TEXT
);
CREATE INDEX sign_ins_by_time ON sign_ins (at, id);
CREATE INDEX sign_ins_by_user ON sign_ins (user_id, at, id);
CREATE INDEX sign_ins_by_device ON sign_ins (user_id, user_agent) WHERE outcome = 'succeeded';

CREATE TABLE clients (
    id                        TEXT PRIMARY KEY,
    name                      TEXT NOT NULL,
    client_type               TEXT NOT NULL,
    auth_method               TEXT NOT NULL,
    jwks                      TEXT,
    redirect_uris             TEXT NOT NULL, -- one a line
    post_logout_redirect_uris TEXT NOT NULL, -- one a line
    backchannel_logout_uri    TEXT,
    grant_types               TEXT NOT NULL,
    scopes                    TEXT NOT NULL,
    signing_alg               TEXT NOT NULL,
    require_pkce              BIGINT NOT NULL,
    require_dpop              BIGINT NOT NULL,
    fapi                      BIGINT NOT NULL,
    created_at                BIGINT NOT NULL,
    changed_at                BIGINT NOT NULL,
    disabled_at               BIGINT,
    name_key                  ORDERED_TEXT NOT NULL,
    search_text               TEXT NOT NULL
);
CREATE INDEX clients_by_name ON clients (name_key, id);

CREATE TABLE client_secrets (
    id         TEXT PRIMARY KEY,
    client_id  TEXT NOT NULL REFERENCES clients (id),
    digest     BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL           -- 9223372036854775807 for never
);
CREATE INDEX client_secrets_by_client ON client_secrets (client_id, expires_at);
CREATE INDEX client_secrets_by_expiry ON client_secrets (expires_at);

CREATE TABLE consents (
    user_id    TEXT NOT NULL REFERENCES users (id),
    client_id  TEXT NOT NULL REFERENCES clients (id),
    scopes     TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    revoked_at BIGINT,
    PRIMARY KEY (user_id, client_id)
);
CREATE INDEX consents_by_client ON consents (client_id, user_id);

CREATE TABLE authorization_codes (
    digest            BLOB PRIMARY KEY,
    client_id         TEXT NOT NULL,
    user_id           TEXT NOT NULL,
    session_id        TEXT,
    redirect_uri      TEXT NOT NULL,
    scopes            TEXT NOT NULL,
    nonce             TEXT,
    code_challenge    TEXT,
    dpop_jkt          TEXT,
    resource          TEXT,
    authenticated_at  BIGINT NOT NULL,
    acr               TEXT NOT NULL,
    amr               TEXT NOT NULL,
    offline           BIGINT NOT NULL,
    created_at        BIGINT NOT NULL,
    expires_at        BIGINT NOT NULL,
    used_at           BIGINT,
    grant_id          TEXT,
    access_jti        TEXT,
    access_expires_at BIGINT
);
CREATE INDEX authorization_codes_by_expiry ON authorization_codes (expires_at);

-- A grant: what one authorization gave one client. Its refresh tokens are one family.
CREATE TABLE grants (
    id            TEXT PRIMARY KEY,
    user_id       TEXT NOT NULL,
    client_id     TEXT NOT NULL,
    session_id    TEXT,
    origin        TEXT NOT NULL,         -- code or device
    scopes        TEXT NOT NULL,
    resource      TEXT,
    dpop_jkt      TEXT,
    user_agent    TEXT NOT NULL,
    network       TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    last_used_at  BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    revoked_at    BIGINT,
    revoked_by    TEXT,
    revoke_reason TEXT
);
CREATE INDEX grants_by_user ON grants (user_id, created_at, id);
CREATE INDEX grants_by_client ON grants (client_id, revoked_at);
CREATE INDEX grants_by_session ON grants (session_id);
CREATE INDEX grants_by_expiry ON grants (expires_at);

CREATE TABLE refresh_tokens (
    digest           BLOB PRIMARY KEY,
    grant_id         TEXT NOT NULL,
    parent           BLOB,
    successor        BLOB,
    sealed_successor BLOB,               -- sealed with a key made from this token: only who has it can read it
    created_at       BIGINT NOT NULL,
    idle_expires_at  BIGINT NOT NULL,
    rotated_at       BIGINT
);
CREATE INDEX refresh_tokens_by_grant ON refresh_tokens (grant_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (idle_expires_at);

CREATE TABLE device_codes (
    digest         BLOB PRIMARY KEY,
    user_code      TEXT NOT NULL UNIQUE,
    client_id      TEXT NOT NULL,
    scopes         TEXT NOT NULL,
    resource       TEXT,
    user_agent     TEXT NOT NULL,
    network        TEXT NOT NULL,
    interval_ms    BIGINT NOT NULL,
    created_at     BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL,
    last_polled_at BIGINT,
    status         TEXT NOT NULL,
    user_id        TEXT,
    session_id     TEXT,
    decided_at     BIGINT
);
CREATE INDEX device_codes_by_expiry ON device_codes (expires_at);

-- Access tokens that end before their time: one (jti), all of a session (sid), all of a grant.
CREATE TABLE denials (
    kind       TEXT NOT NULL,
    value      TEXT NOT NULL,
    denied_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (kind, value)
);
CREATE INDEX denials_by_time ON denials (denied_at, value);
CREATE INDEX denials_by_expiry ON denials (expires_at);

CREATE TABLE signing_keys (
    kid          TEXT PRIMARY KEY,
    alg          TEXT NOT NULL,
    public_jwk   TEXT NOT NULL,
    sealed       BLOB,                   -- the private half; gone when it is retired
    state        TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    activate_at  BIGINT,
    activated_at BIGINT,
    retire_at    BIGINT,
    retired_at   BIGINT
);
CREATE UNIQUE INDEX signing_keys_active ON signing_keys (alg) WHERE state = 'active';

CREATE TABLE identity_providers (
    id            TEXT PRIMARY KEY,
    kind          TEXT NOT NULL,
    name          TEXT NOT NULL,
    issuer        TEXT NOT NULL,
    client_id     TEXT NOT NULL,
    sealed_secret BLOB,
    settings      TEXT NOT NULL,
    trusts_email  BIGINT NOT NULL,
    created_at    BIGINT NOT NULL,
    changed_at    BIGINT NOT NULL,
    disabled_at   BIGINT
);

CREATE TABLE linked_identities (
    id             TEXT PRIMARY KEY,
    user_id        TEXT NOT NULL REFERENCES users (id),
    provider_id    TEXT NOT NULL REFERENCES identity_providers (id),
    issuer         TEXT NOT NULL,
    subject        TEXT NOT NULL,
    email          TEXT,
    created_at     BIGINT NOT NULL,
    last_used_at   BIGINT NOT NULL,
    UNIQUE (issuer, subject)
);
CREATE INDEX linked_identities_by_user ON linked_identities (user_id, created_at, id);

CREATE TABLE pushed_requests (
    digest     BLOB PRIMARY KEY,         -- of the request_uri
    client_id  TEXT NOT NULL,
    parameters TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX pushed_requests_by_expiry ON pushed_requests (expires_at);

-- A browser that is at an identity provider.
CREATE TABLE login_transactions (
    state_digest    BLOB PRIMARY KEY,
    browser_digest  BLOB NOT NULL,       -- of the cookie that binds it to one browser
    provider_id     TEXT NOT NULL,
    nonce           TEXT NOT NULL,
    sealed_verifier BLOB NOT NULL,
    redirect_to     TEXT NOT NULL,
    user_id         TEXT,                -- who is signed in and links an identity
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL
);
CREATE INDEX login_transactions_by_expiry ON login_transactions (expires_at);
