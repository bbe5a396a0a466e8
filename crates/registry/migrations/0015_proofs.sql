-- When and how a person proved who they are, where that is asked for later.

-- Latest proof whose moment is known: by password, passkey or code here, or at a provider that says when it
-- was. 0: none. `authenticated_at` is when they signed in, which a provider may do without asking anybody.
ALTER TABLE sessions ADD COLUMN proven_at BIGINT NOT NULL DEFAULT 0;
-- Of sessions that began at a provider nobody wrote down what it said: they are asked once more.
UPDATE sessions SET proven_at = authenticated_at WHERE amr <> 'fed';

-- The sign-in that a grant came from, for the tokens of every refresh (OpenID Connect Core §12.2). A device's
-- grant is in no session where it could be looked up. None for grants of before.
ALTER TABLE grants ADD COLUMN authenticated_at BIGINT;
ALTER TABLE grants ADD COLUMN acr TEXT;
ALTER TABLE grants ADD COLUMN amr TEXT;
-- When unusual use of it was last written down: once a day.
ALTER TABLE grants ADD COLUMN unusual_at BIGINT;
