-- A browser is known again by a cookie of its own, not by what it says it is: that is copied, and changes with each update.

-- SHA-256 of the cookie's token; none for attempts that failed, and for sign-ins of before.
ALTER TABLE sign_ins ADD COLUMN device BLOB;
DROP INDEX sign_ins_by_device;
CREATE INDEX sign_ins_by_device ON sign_ins (user_id, device) WHERE outcome = 'succeeded';
