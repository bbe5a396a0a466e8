-- Refresh tokens of confidential clients are bound to how the client proves itself, and not to the key of its
-- DPoP proofs (RFC 9449 §5): a key that was lost at a restart took all of them with it.
UPDATE grants SET dpop_jkt = NULL WHERE dpop_jkt IS NOT NULL
    AND client_id IN (SELECT id FROM clients WHERE client_type = 'confidential');
