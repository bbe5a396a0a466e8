-- What is denied is read anew each second, and what is over stays for a day: the reading begins behind it,
-- and goes page by page along one index.
DROP INDEX denials_by_time;
DROP INDEX denials_by_expiry;
CREATE INDEX denials_by_expiry ON denials (expires_at, kind, value);

-- Questions of campaigns that were called off before anybody was told: nobody will be.
UPDATE hygiene_questions SET told_at = 0 WHERE told_at IS NULL AND state = 'cancelled';
