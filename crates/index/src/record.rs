//! How a secret and its key lie in nine words, and what lies beside them.

use keywright_domain::api_keys::{KeyMac, KeyType, SecretState};

use crate::image::{KeyImage, PrincipalFacts, RulesId, ScopesId, SecretImage, Snapshot, TextId};
use crate::packed::{KeyId, PackedKid};
use crate::row::{Control, DISABLED, EXPOSED, EXTENDED, FIRST_USED, LIVE, REVOKED, Row};

/// Data words: kid and key id (3), mac (4), created_at and profile (1), expires_at and owner (1).
pub(crate) const WORDS: usize = 9;
/// State of a key's first record whose secret is gone from the images.
pub(crate) const ELSEWHERE: u64 = 7;

/// Times in a word: milliseconds up to the year 2109; others lie beside.
const TIME_BITS: u32 = 42;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// As `expires_at`: never.
const NEVER: u64 = TIME_MASK;
/// Numbers of profiles and owners in a word; larger ones lie beside.
const NUMBER_END: u32 = 1 << (64 - TIME_BITS);

/// Who made a key, as a profile says it: a profile is shared by many owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Creator {
    None,
    Owner,
    Other(u32),
}

impl Creator {
    pub(crate) fn number(self, owner: u32) -> u32 {
        match self {
            Self::None => 0,
            Self::Owner => owner,
            Self::Other(number) => number,
        }
    }
}

/// What many secrets have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Profile {
    scopes: ScopesId,
    rules: Option<RulesId>,
    environment: TextId,
    key_type: KeyType,
    pepper: TextId,
    pub(crate) creator: Creator,
    canary: bool,
    one_time: bool,
}

impl Profile {
    pub(crate) fn of(image: &KeyImage, secret: &SecretImage) -> Self {
        let creator = match (image.creator, image.owner) {
            (None, _) => Creator::None,
            (Some(creator), Some(owner)) if creator == owner => Creator::Owner,
            (Some(creator), _) => Creator::Other(creator.0),
        };
        Self {
            scopes: image.scopes,
            rules: image.rules,
            environment: image.environment,
            key_type: image.key_type,
            pepper: secret.pepper,
            creator,
            canary: image.canary,
            one_time: image.one_time,
        }
    }
}

/// What does not fit into the words, or is rare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extended {
    head: u32,
    profile: u32,
    owner: u32,
    created_at: i64,
    not_before: Option<i64>,
    expires_at: Option<i64>,
    retires_at: Option<i64>,
}

/// A secret and its key, apart from the control word.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    kid: PackedKid,
    id: KeyId,
    mac: [u8; 32],
    pub(crate) profile: u32,
    pub(crate) owner: u32,
    head: u32,
    slot: u32,
    created_at: i64,
    not_before: Option<i64>,
    expires_at: Option<i64>,
    retires_at: Option<i64>,
}

impl Record {
    pub(crate) fn of(
        image: &KeyImage,
        secret: &SecretImage,
        profile: u32,
        head: u32,
        slot: u32,
    ) -> Self {
        Self {
            kid: secret.kid,
            id: image.id,
            mac: *secret.mac.as_bytes(),
            profile,
            owner: image.owner.map_or(0, |owner| owner.0),
            head,
            slot,
            created_at: image.created_at,
            not_before: image.not_before,
            expires_at: secret.expires_at,
            retires_at: secret.retires_at,
        }
    }

    /// The words, and what lies beside them if not everything fits.
    pub(crate) fn words(&self) -> ([u64; WORDS], Option<Extended>) {
        let (kid, id) = (self.kid.bits(), self.id.bits());
        let mut words = [0; WORDS];
        words[0] = kid as u64;
        words[1] = (kid >> 64) as u64 | ((id >> 64) as u64) << 8;
        words[2] = id as u64;
        for (word, bytes) in words[3..7].iter_mut().zip(self.mac.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let created = u64::try_from(self.created_at)
            .ok()
            .filter(|time| *time < NEVER);
        let expires = match self.expires_at {
            None => Some(NEVER),
            Some(time) => u64::try_from(time).ok().filter(|time| *time < NEVER),
        };
        let is_plain = self.head == self.slot
            && self.not_before.is_none()
            && self.retires_at.is_none()
            && self.profile < NUMBER_END
            && self.owner < NUMBER_END;
        if let (Some(created), Some(expires), true) = (created, expires, is_plain) {
            words[7] = created | u64::from(self.profile) << TIME_BITS;
            words[8] = expires | u64::from(self.owner) << TIME_BITS;
            return (words, None);
        }
        let extended = Extended {
            head: self.head,
            profile: self.profile,
            owner: self.owner,
            created_at: self.created_at,
            not_before: self.not_before,
            expires_at: self.expires_at,
            retires_at: self.retires_at,
        };
        (words, Some(extended))
    }

    pub(crate) fn read(words: &[u64; WORDS], extended: Option<Extended>, slot: u32) -> Self {
        let mut mac = [0; 32];
        for (bytes, word) in mac.as_chunks_mut::<8>().0.iter_mut().zip(&words[3..7]) {
            *bytes = word.to_le_bytes();
        }
        let expires = words[8] & TIME_MASK;
        let plain = Extended {
            head: slot,
            profile: (words[7] >> TIME_BITS) as u32,
            owner: (words[8] >> TIME_BITS) as u32,
            created_at: (words[7] & TIME_MASK).cast_signed(),
            not_before: None,
            expires_at: (expires != NEVER).then_some(expires.cast_signed()),
            retires_at: None,
        };
        let beside = extended.unwrap_or(plain);
        Self {
            kid: kid_in(words[0], words[1]),
            id: id_in(words[1], words[2]),
            mac,
            profile: beside.profile,
            owner: beside.owner,
            head: beside.head,
            slot,
            created_at: beside.created_at,
            not_before: beside.not_before,
            expires_at: beside.expires_at,
            retires_at: beside.retires_at,
        }
    }

    /// Everything together; `None` if the state is none that verification knows.
    pub(crate) fn snapshot(
        &self,
        control: Control,
        profile: &Profile,
        owner: Option<PrincipalFacts>,
        creator: Option<PrincipalFacts>,
    ) -> Option<Snapshot> {
        Some(Snapshot {
            kid: self.kid,
            head: self.head,
            key_id: self.id,
            version: control.version(),
            mac: KeyMac::from_bytes(self.mac),
            pepper: profile.pepper,
            state: state_of(control.state())?,
            expires_at: self.expires_at,
            retires_at: self.retires_at,
            first_used: control.has(FIRST_USED),
            created_at: self.created_at,
            not_before: self.not_before,
            revoked: control.has(REVOKED),
            disabled: control.has(DISABLED),
            exposed: control.has(EXPOSED),
            canary: profile.canary,
            one_time: profile.one_time,
            environment: profile.environment,
            key_type: profile.key_type,
            scopes: profile.scopes,
            rules: profile.rules,
            owner,
            creator,
        })
    }
}

/// The flags of a key in a control word.
pub(crate) fn flags(image: &KeyImage) -> u64 {
    let mut flags = LIVE;
    for (is_set, flag) in [
        (image.revoked, REVOKED),
        (image.disabled, DISABLED),
        (image.exposed, EXPOSED),
    ] {
        if is_set {
            flags |= flag;
        }
    }
    flags
}

pub(crate) fn is_extended(control: Control) -> bool {
    control.has(EXTENDED)
}

pub(crate) fn kid_of(row: &Row<WORDS>) -> PackedKid {
    kid_in(row.fixed_word(0), row.fixed_word(1))
}

pub(crate) fn id_of(row: &Row<WORDS>) -> KeyId {
    id_in(row.fixed_word(1), row.fixed_word(2))
}

pub(crate) fn mac_of(row: &Row<WORDS>) -> [u8; 32] {
    let mut mac = [0; 32];
    for (index, bytes) in mac.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        *bytes = row.fixed_word(3 + index).to_le_bytes();
    }
    mac
}

fn kid_in(low: u64, high: u64) -> PackedKid {
    PackedKid::from_bits(u128::from(low) | u128::from(high & 0xff) << 64)
}

fn id_in(high: u64, low: u64) -> KeyId {
    KeyId::from_bits(u128::from(low) | u128::from(high >> 8) << 64)
}

pub(crate) fn state_bits(state: SecretState) -> u64 {
    match state {
        SecretState::Pending => 0,
        SecretState::Active => 1,
        SecretState::Retiring => 2,
        SecretState::Retired => 3,
        SecretState::Expired => 4,
        SecretState::Revoked => 5,
        SecretState::Aborted => 6,
    }
}

fn state_of(bits: u64) -> Option<SecretState> {
    Some(match bits {
        0 => SecretState::Pending,
        1 => SecretState::Active,
        2 => SecretState::Retiring,
        3 => SecretState::Retired,
        4 => SecretState::Expired,
        5 => SecretState::Revoked,
        6 => SecretState::Aborted,
        _ => return None,
    })
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Row<WORDS>>() == 80, "ten words a secret");
