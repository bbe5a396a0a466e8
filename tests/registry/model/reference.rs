//! The thirteen rules once more, as plainly as they can be said: what the engine is compared with.
//! Written from the rules and not from the engine.

const DAY: i64 = 24 * 60 * 60 * 1000;
const LONGEST_OVERLAP: i64 = 30 * DAY;

/// What a secret is to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    New,
    Current,
    Old,
}

/// How a secret ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Retired,
    Aborted,
    Expired,
    Revoked,
}

#[derive(Clone, Debug)]
pub(super) struct Secret {
    pub(super) key: usize,
    role: Role,
    /// Written down for good.
    ended: Option<End>,
    pub(super) created: i64,
    pub(super) expires: Option<i64>,
    pub(super) overlap_ends: Option<i64>,
    pub(super) times_out: Option<i64>,
    used: bool,
    last_used: Option<i64>,
}

impl Secret {
    fn end(&self, now: i64) -> Option<End> {
        let over = |end: Option<i64>| end.is_some_and(|end| end <= now);
        self.ended.or(match self.role {
            Role::Old if over(self.overlap_ends) => Some(End::Retired),
            Role::New if over(self.times_out) => Some(End::Aborted),
            _ if over(self.expires) => Some(End::Expired),
            _ => None,
        })
    }

    pub(super) fn works(&self, now: i64) -> bool {
        self.end(now).is_none()
    }

    fn finish(&mut self, end: End) {
        self.ended = Some(end);
    }

    /// Never extended.
    fn ends_at_the_latest(&mut self, at: i64) {
        let ends = [self.overlap_ends, self.expires, Some(at)];
        self.overlap_ends = ends.into_iter().flatten().min();
        self.role = Role::Old;
    }

    /// As its row says it.
    pub(super) fn stored(&self) -> &'static str {
        match (self.ended, self.role) {
            (Some(End::Retired), _) => "retired",
            (Some(End::Aborted), _) => "aborted",
            (Some(End::Expired), _) => "expired",
            (Some(End::Revoked), _) => "revoked",
            (None, Role::New) => "pending",
            (None, Role::Current) => "active",
            (None, Role::Old) => "retiring",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    FirstUse,
    Issue,
    Drained(i64),
}

#[derive(Clone, Debug)]
pub(super) struct Rotation {
    old: Option<usize>,
    new: usize,
    overlap: i64,
    clock: Clock,
    /// When the new secret was seen.
    seen: Option<i64>,
    pub(super) name: String,
}

impl Rotation {
    pub(super) fn stored(&self) -> &'static str {
        if self.seen.is_some() {
            "overlapping"
        } else {
            "pending"
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) owner: usize,
    creator: Option<usize>,
    writes: bool,
    created: i64,
    not_before: Option<i64>,
    one_time: bool,
    disabled: bool,
    revoked: bool,
    pub(super) secrets: Vec<usize>,
    pub(super) rotation: Option<Rotation>,
}

#[derive(Clone, Debug)]
pub(super) struct Person {
    disabled: bool,
    /// Whether it may write, besides read.
    writes: bool,
    keys_revoked: Option<i64>,
}

/// What a step did: nothing, a change, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Same,
    Changed,
    Refused(&'static str),
}

/// What is wanted of a rotation.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) clock: Clock,
    pub(super) overlap: i64,
    pub(super) lifetime: Option<i64>,
    pub(super) replaces: Option<usize>,
    pub(super) compromised: Option<bool>,
}

/// Everything, as it should be.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) now: i64,
    pub(super) keys: Vec<Key>,
    pub(super) secrets: Vec<Secret>,
    pub(super) people: Vec<Person>,
    pub(super) done: Vec<(String, usize)>,
}

impl World {
    pub(super) fn new(now: i64, people: usize) -> Self {
        let person = Person {
            disabled: false,
            writes: true,
            keys_revoked: None,
        };
        Self {
            now,
            people: vec![person; people],
            ..Self::default()
        }
    }

    fn works(&self, secret: usize) -> bool {
        self.secrets[secret].works(self.now)
    }

    /// Ended by itself, or with all keys of its owner.
    fn is_ended(&self, key: usize) -> bool {
        let key = &self.keys[key];
        let with_all = self.people[key.owner].keys_revoked;
        key.revoked || with_all.is_some_and(|at| key.created <= at)
    }

    /// Time has ended some; whatever touches the secrets of a key writes that down.
    fn note(&mut self, key: usize) {
        for secret in &self.keys[key].secrets {
            let secret = &mut self.secrets[*secret];
            secret.ended = secret.end(self.now);
        }
    }

    /// What the answer to a right secret is.
    pub(super) fn verdict(&self, secret: usize, writes: Option<bool>) -> &'static str {
        let (one, now) = (&self.secrets[secret], self.now);
        let key = &self.keys[one.key];
        let owner = &self.people[key.owner];
        let end = one.end(now);
        match end {
            Some(End::Revoked) => return "revoked",
            Some(End::Retired | End::Aborted) => return "retired",
            _ => {}
        }
        if self.is_ended(one.key) {
            return "revoked";
        }
        if key.disabled {
            return "disabled";
        }
        if owner.disabled {
            return "owner_disabled";
        }
        if key.not_before.is_some_and(|start| now < start) {
            return "not_yet_valid";
        }
        if end == Some(End::Expired) {
            return "expired";
        }
        let Some(wants_write) = writes else {
            return "valid";
        };
        let maker = key.creator.map(|creator| &self.people[creator]);
        let lent = maker.is_none_or(|maker| !maker.disabled && (maker.writes || !wants_write));
        if lent && (key.writes || !wants_write) {
            "valid"
        } else {
            "insufficient_scope"
        }
    }

    /// An accepted use. Says whether a row of the audit trail is to come of it.
    pub(super) fn used(&mut self, secret: usize) -> Outcome {
        let now = self.now;
        let one = &mut self.secrets[secret];
        one.last_used = one.last_used.max(Some(now));
        let first = !std::mem::replace(&mut one.used, true);
        let key = one.key;
        if !first {
            return Outcome::Same;
        }
        let is_new = |rotation: &Rotation| rotation.new == secret && rotation.seen.is_none();
        if self.keys[key].rotation.as_ref().is_some_and(is_new) {
            self.seen(key);
        }
        if self.keys[key].one_time {
            self.note(key);
            for secret in self.keys[key].secrets.clone() {
                if self.works(secret) {
                    self.secrets[secret].finish(End::Retired);
                }
            }
            self.keys[key].rotation = None;
        }
        Outcome::Changed
    }

    /// The new secret of a rotation counts as used.
    fn seen(&mut self, key: usize) {
        self.note(key);
        let now = self.now;
        let Some(rotation) = &mut self.keys[key].rotation else {
            return;
        };
        rotation.seen = Some(now);
        let new = &mut self.secrets[rotation.new];
        (new.role, new.times_out) = (Role::Current, None);
        match rotation.old.map(|old| &mut self.secrets[old]) {
            Some(old) if old.works(now) => {
                if rotation.clock != Clock::Issue {
                    old.ends_at_the_latest(now + rotation.overlap);
                }
            }
            _ => self.keys[key].rotation = None,
        }
    }

    pub(super) fn issue(
        &mut self,
        owner: usize,
        creator: Option<usize>,
        writes: bool,
        lifetime: Option<i64>,
        not_before: Option<i64>,
        one_time: bool,
    ) -> Outcome {
        let now = self.now;
        let begins = not_before.map_or(0, |start| start - now);
        if lifetime.is_some_and(|lifetime| begins >= lifetime) && not_before.is_some() {
            return Outcome::Refused("never_valid");
        }
        if self.people[owner].disabled
            || creator.is_some_and(|creator| self.people[creator].disabled)
        {
            return Outcome::Refused("owner_not_found");
        }
        if writes && creator.is_some_and(|creator| !self.people[creator].writes) {
            return Outcome::Refused("scope_exceeds_creator");
        }
        // A key that is made after all of its owner's were revoked is none of those.
        let created = self.people[owner]
            .keys_revoked
            .map_or(now, |at| now.max(at + 1));
        self.keys.push(Key {
            owner,
            creator,
            writes,
            created,
            not_before,
            one_time,
            disabled: false,
            revoked: false,
            secrets: vec![self.secrets.len()],
            rotation: None,
        });
        self.add_secret(self.keys.len() - 1, Role::Current, lifetime, None);
        Outcome::Changed
    }

    fn add_secret(
        &mut self,
        key: usize,
        role: Role,
        lifetime: Option<i64>,
        times_out: Option<i64>,
    ) {
        self.secrets.push(Secret {
            key,
            role,
            ended: None,
            created: self.now,
            expires: lifetime.map(|lifetime| self.now + lifetime),
            overlap_ends: None,
            times_out,
            used: false,
            last_used: None,
        });
    }

    /// The newest that works and is not on its way out; else the newest that was not cancelled.
    pub(super) fn current(&self, key: usize) -> usize {
        let newest = || self.keys[key].secrets.iter().rev().copied();
        newest()
            .find(|one| self.works(*one) && self.secrets[*one].role != Role::Old)
            .or_else(|| newest().find(|one| self.secrets[*one].ended != Some(End::Aborted)))
            // Its first one never is.
            .unwrap_or(self.keys[key].secrets[0])
    }

    pub(super) fn rotate(&mut self, key: usize, name: &str, wish: &Wish) -> Outcome {
        let now = self.now;
        if self.done.iter().any(|(done, _)| done == name) {
            return Outcome::Refused("rotation_already_done");
        }
        let current = self.current(key);
        let overlap = if wish.compromised.is_some() {
            0
        } else {
            wish.overlap
        };
        let one = &self.secrets[current];
        let lifetime = wish.lifetime.or(one.expires.map(|end| end - one.created));
        if !(0..=LONGEST_OVERLAP).contains(&overlap)
            || lifetime.is_some_and(|life| life < overlap || !(DAY..=365 * DAY).contains(&life))
        {
            return Outcome::Refused("policy_violation");
        }
        if self.is_ended(key) {
            return Outcome::Refused("key_revoked");
        }
        if wish.replaces.is_some_and(|secret| secret != current) {
            return Outcome::Refused("rotation_in_progress");
        }
        if wish.compromised == Some(false) {
            return Outcome::Refused("reason_required");
        }
        self.note(key);
        let live: Vec<usize> = self.keys[key].secrets.clone();
        let live: Vec<usize> = live.into_iter().filter(|one| self.works(*one)).collect();
        let mut old = None;
        for secret in live {
            let is_new = self.secrets[secret].role == Role::New;
            if wish.compromised.is_some() {
                self.secrets[secret].finish(End::Revoked);
            } else if is_new {
                self.secrets[secret].finish(End::Aborted);
            } else if let Some(older) = old.replace(secret) {
                let older: usize = older;
                self.secrets[older].finish(End::Retired);
            }
        }
        if let Some(secret) = old.filter(|_| overlap == 0) {
            self.secrets[secret].finish(End::Retired);
            old = None;
        }
        if let (Some(secret), Clock::Issue) = (old, wish.clock) {
            self.secrets[secret].ends_at_the_latest(now + overlap);
        }
        // A new one that nobody uses is cancelled while there is an old one to go on with.
        let times_out = now + LONGEST_OVERLAP.min(lifetime.unwrap_or(i64::MAX));
        let goes_on = old.map(|old| &self.secrets[old]).is_some_and(|old| {
            old.role == Role::Current && old.expires.is_none_or(|end| end > times_out)
        });
        let new = self.secrets.len();
        self.keys[key].secrets.push(new);
        self.add_secret(key, Role::New, lifetime, goes_on.then_some(times_out));
        self.done.push((name.to_owned(), key));
        self.keys[key].rotation = Some(Rotation {
            old,
            new,
            overlap,
            clock: wish.clock,
            seen: None,
            name: name.to_owned(),
        });
        Outcome::Changed
    }

    pub(super) fn promote(&mut self, key: usize) -> Outcome {
        let waits = |rotation: &Rotation| rotation.seen.is_none() && self.works(rotation.new);
        let waits = self.keys[key].rotation.as_ref().map(waits);
        if waits.is_some() && self.is_ended(key) {
            return Outcome::Refused("key_revoked");
        }
        if waits != Some(true) {
            return Outcome::Refused("no_rotation");
        }
        self.seen(key);
        Outcome::Changed
    }

    /// Cancels before the new secret was seen, or rolls back.
    pub(super) fn take_back(&mut self, key: usize, only_unseen: bool) -> Outcome {
        let Some(rotation) = self.keys[key].rotation.clone() else {
            return Outcome::Refused("no_rotation");
        };
        if self.is_ended(key) {
            return Outcome::Refused("key_revoked");
        }
        if only_unseen && rotation.seen.is_some() {
            return Outcome::Refused("no_rotation");
        }
        if !rotation.old.is_some_and(|old| self.works(old)) {
            return Outcome::Refused("too_late_to_roll_back");
        }
        self.give_back(key);
        Outcome::Changed
    }

    fn give_back(&mut self, key: usize) {
        self.note(key);
        let Some(rotation) = self.keys[key].rotation.take() else {
            return;
        };
        if self.works(rotation.new) {
            self.secrets[rotation.new].finish(End::Aborted);
        }
        if let Some(old) = rotation.old.filter(|old| self.works(*old)) {
            let old = &mut self.secrets[old];
            (old.role, old.overlap_ends) = (Role::Current, None);
        }
    }

    pub(super) fn finish(&mut self, key: usize) -> Outcome {
        let Some(rotation) = &self.keys[key].rotation else {
            return Outcome::Refused("no_rotation");
        };
        if self.is_ended(key) {
            return Outcome::Refused("key_revoked");
        }
        if rotation.seen.is_none() {
            return Outcome::Refused("no_rotation");
        }
        self.finish_at_once(key);
        Outcome::Changed
    }

    fn finish_at_once(&mut self, key: usize) {
        let old = self.keys[key].rotation.take().and_then(|open| open.old);
        self.note(key);
        if let Some(old) = old.filter(|old| self.works(*old)) {
            self.secrets[old].finish(End::Retired);
        }
    }

    pub(super) fn reissue(&mut self, name: &str, key: usize) -> Outcome {
        if self.is_ended(key) {
            return Outcome::Refused("key_revoked");
        }
        let open = self.keys[key].rotation.as_ref();
        let Some(lost) = open
            .filter(|open| open.name == name && open.seen.is_none() && self.works(open.new))
            .map(|open| open.new)
        else {
            return Outcome::Refused("no_rotation");
        };
        self.note(key);
        let one = &mut self.secrets[lost];
        one.finish(End::Aborted);
        let (lifetime, times_out) = (one.expires.map(|end| end - one.created), one.times_out);
        let new = self.secrets.len();
        self.keys[key].secrets.push(new);
        self.add_secret(key, Role::New, lifetime, times_out);
        if let Some(rotation) = &mut self.keys[key].rotation {
            rotation.new = new;
        }
        Outcome::Changed
    }

    pub(super) fn revoke_key(&mut self, key: usize) -> Outcome {
        if std::mem::replace(&mut self.keys[key].revoked, true) {
            return Outcome::Same;
        }
        self.note(key);
        for secret in self.keys[key].secrets.clone() {
            if self.works(secret) {
                self.secrets[secret].finish(End::Revoked);
            }
        }
        self.keys[key].rotation = None;
        Outcome::Changed
    }

    pub(super) fn revoke_secret(&mut self, secret: usize, says_why: bool) -> Outcome {
        if !says_why {
            return Outcome::Refused("reason_required");
        }
        if !self.works(secret) {
            return Outcome::Same;
        }
        let key = self.secrets[secret].key;
        self.secrets[secret].finish(End::Revoked);
        self.note(key);
        let all = self.keys[key].secrets.clone();
        let left: Vec<usize> = all.into_iter().filter(|one| self.works(*one)).collect();
        if let [last] = left[..] {
            self.secrets[last].times_out = None;
        }
        self.settle_key(key);
        Outcome::Changed
    }

    pub(super) fn disable(&mut self, key: usize, disabled: bool) -> Outcome {
        if self.is_ended(key) {
            return Outcome::Refused("key_revoked");
        }
        if std::mem::replace(&mut self.keys[key].disabled, disabled) == disabled {
            return Outcome::Same;
        }
        Outcome::Changed
    }

    pub(super) fn disable_person(&mut self, person: usize, disabled: bool) -> Outcome {
        if std::mem::replace(&mut self.people[person].disabled, disabled) == disabled {
            return Outcome::Same;
        }
        Outcome::Changed
    }

    pub(super) fn permit_person(&mut self, person: usize, writes: bool) -> Outcome {
        if std::mem::replace(&mut self.people[person].writes, writes) == writes {
            return Outcome::Same;
        }
        Outcome::Changed
    }

    /// Every key it has now, whatever the clock says, and none that it gets later.
    pub(super) fn revoke_all(&mut self, person: usize) -> Outcome {
        let mine = self.keys.iter().filter(|key| key.owner == person);
        let newest = mine.map(|key| key.created).max();
        let at = self.people[person]
            .keys_revoked
            .max(newest)
            .max(Some(self.now));
        if std::mem::replace(&mut self.people[person].keys_revoked, at) == at {
            return Outcome::Same;
        }
        Outcome::Changed
    }

    /// What time ends. Says how many rotations changed.
    pub(super) fn settle(&mut self) -> usize {
        (0..self.keys.len())
            .filter(|key| self.settle_key(*key))
            .count()
    }

    fn settle_key(&mut self, key: usize) -> bool {
        let Some(rotation) = self.keys[key].rotation.clone() else {
            return false;
        };
        let old_works = rotation.old.is_some_and(|old| self.works(old));
        let new_works = self.works(rotation.new);
        let Some(seen) = rotation.seen else {
            if !new_works {
                self.give_back(key);
            }
            return !new_works;
        };
        if !old_works {
            self.note(key);
            self.keys[key].rotation = None;
            return true;
        }
        let Clock::Drained(silence) = rotation.clock else {
            return false;
        };
        let last = rotation.old.and_then(|old| self.secrets[old].last_used);
        let silent = self.now - last.unwrap_or(seen).max(seen);
        if new_works && silent >= silence {
            self.finish_at_once(key);
            return true;
        }
        false
    }
}
