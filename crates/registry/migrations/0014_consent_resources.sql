-- What a person allowed a client counts for the resource it was allowed for (RFC 8707), and for no other.

-- `consents` says that there is a consent, and all its scopes together.
CREATE TABLE consent_resources (
    user_id   TEXT NOT NULL,
    client_id TEXT NOT NULL,
    resource  TEXT NOT NULL,             -- empty for the server's own API
    scopes    TEXT NOT NULL,
    PRIMARY KEY (user_id, client_id, resource),
    FOREIGN KEY (user_id, client_id) REFERENCES consents (user_id, client_id)
);

-- Nobody wrote down which resource an older consent was for. It counts for the own API, which nearly
-- all were for; for another resource the person is asked once more.
INSERT INTO consent_resources (user_id, client_id, resource, scopes)
    SELECT user_id, client_id, '', scopes FROM consents WHERE revoked_at IS NULL;
