-- Messages are taken in turns of their targets: the first that is due to each is found without a look at the others,
-- however many wait for one target.
DROP INDEX outbox_due;
DROP INDEX outbox_waiting;
CREATE INDEX outbox_next ON outbox (channel, target, due_at, id) WHERE state = 'waiting';
CREATE INDEX outbox_next_of_channel ON outbox (channel, due_at, id) WHERE state = 'waiting';
CREATE INDEX outbox_claimed ON outbox (claimed_until) WHERE state = 'waiting' AND claimed_until > 0;
