//! The index against plain maps, under random interleavings of what can happen to keys.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests stand outside of the test functions"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{image, key_id, kid, mac, secret};
use keywright_domain::api_keys::SecretState;
use keywright_index::{Applied, Index, KeyImage, KidOfMac, Lookup, PrincipalImage};
use proptest::prelude::*;

const KEYS: u64 = 5;
/// Each key has its own few kids.
const KIDS: u64 = 4;

/// What can happen.
#[derive(Clone, Debug)]
enum Step {
    /// An image of the given age arrives: 0 is the newest. By load or by apply.
    Apply {
        key: u64,
        age: i64,
        by_load: bool,
    },
    /// The database changes: another set of secrets, another state.
    Change {
        key: u64,
        secrets: u8,
        state: u8,
        retires: bool,
        wide: bool,
    },
    Doubt {
        key: u64,
    },
    Settle {
        key: u64,
    },
    Remove {
        key: u64,
    },
    Clear,
    Complete(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS;
    prop_oneof![
        6 => (key.clone(), prop_oneof![3 => Just(0), 1 => 1_i64..4], any::<bool>())
            .prop_map(|(key, age, by_load)| Step::Apply { key, age, by_load }),
        6 => (key.clone(), 0_u8..16, 0_u8..7, any::<bool>(), any::<bool>())
            .prop_map(|(key, secrets, state, retires, wide)| Step::Change { key, secrets, state, retires, wide }),
        2 => key.clone().prop_map(|key| Step::Doubt { key }),
        2 => key.clone().prop_map(|key| Step::Settle { key }),
        1 => key.prop_map(|key| Step::Remove { key }),
        1 => Just(Step::Clear),
        1 => any::<bool>().prop_map(Step::Complete),
    ]
}

/// What one key is, told plainly.
#[derive(Default)]
struct Model {
    /// All images that the database ever had, by version.
    history: BTreeMap<i64, KeyImage>,
    /// The image held.
    held: Option<KeyImage>,
    /// Kids of images before, that the held one has not: the key is here even if it has none any more.
    dropped: BTreeSet<u64>,
    doubts: Vec<i64>,
    tombstone: Option<i64>,
}

const STATES: [SecretState; 7] = [
    SecretState::Pending,
    SecretState::Active,
    SecretState::Retiring,
    SecretState::Retired,
    SecretState::Expired,
    SecretState::Revoked,
    SecretState::Aborted,
];

fn number_of(key: u64, secret: u64) -> u64 {
    key * KIDS + secret
}

fn changed(index: &Index, key: u64, version: i64, step: &Step) -> KeyImage {
    let mut changed = image(index, key, version);
    let Step::Change {
        secrets,
        state,
        retires,
        wide,
        ..
    } = step
    else {
        return changed;
    };
    changed.revoked = secrets % 3 == 0;
    changed.disabled = secrets % 5 == 0;
    changed.exposed = *state == 2;
    // Times that do not fit into the words.
    changed.created_at = if *wide {
        i64::from(*state) - 3
    } else {
        1_763_000_000_000 + version
    };
    changed.not_before = (secrets % 4 == 1).then_some(version);
    changed.secrets = (0..KIDS)
        .filter(|bit| secrets >> bit & 1 == 1)
        .map(|bit| {
            let mut one = secret(index, number_of(key, bit));
            one.mac = mac(number_of(key, bit) + if *wide { 1000 } else { 0 });
            one.state = STATES[(usize::from(*state) + bit as usize) % 7];
            one.retires_at = retires.then_some(version * 10);
            one.expires_at = match version % 3 {
                0 => None,
                1 => Some(version * 100),
                _ => Some(i64::MAX - version),
            };
            one.foreign = bit < 2;
            one
        })
        .collect();
    changed
}

fn check(index: &Index, models: &[Model], complete: bool) -> Result<(), TestCaseError> {
    let missing = if complete { "unknown" } else { "ask" };
    for (key, model) in models.iter().enumerate() {
        for bit in 0..KIDS {
            let number = number_of(key as u64, bit);
            let held = model.held.as_ref();
            let secret =
                held.and_then(|held| held.secrets.iter().find(|one| one.kid == kid(number)));
            let answer = index.lookup(kid(number), 0);
            let (said, by_mac) = (name(&answer), secret.filter(|one| one.foreign));
            match secret {
                None => prop_assert_eq!(said, missing),
                Some(_) if !model.doubts.is_empty() => prop_assert_eq!(said, "ask"),
                Some(secret) => {
                    let Lookup::Found(found) = answer else {
                        return Err(TestCaseError::fail(format!("{said} instead of found")));
                    };
                    let held = held.expect("it has a secret");
                    prop_assert_eq!(found.key_id, key_id(key as u64));
                    prop_assert_eq!(found.version, held.version);
                    prop_assert_eq!(found.mac.as_bytes(), secret.mac.as_bytes());
                    prop_assert_eq!(found.state, secret.state);
                    prop_assert_eq!(found.expires_at, secret.expires_at);
                    prop_assert_eq!(found.retires_at, secret.retires_at);
                    prop_assert_eq!(found.created_at, held.created_at);
                    prop_assert_eq!(found.not_before, held.not_before);
                    prop_assert_eq!(
                        (found.revoked, found.disabled, found.exposed),
                        (held.revoked, held.disabled, held.exposed)
                    );
                }
            }
            if let Some(secret) = by_mac {
                // In doubt or not: what is in doubt is told with the kid.
                prop_assert_eq!(index.kid_of_mac(&secret.mac), KidOfMac::Is(secret.kid));
            }
            if secret.is_some_and(|one| !one.foreign) {
                let other = index.kid_of_mac(&secret.expect("some").mac);
                prop_assert_eq!(
                    other,
                    if complete {
                        KidOfMac::Unknown
                    } else {
                        KidOfMac::AskDatabase
                    },
                    "only imported hashes are found by their mac"
                );
            }
        }
    }
    let keys = models.iter().filter(|model| {
        model
            .held
            .as_ref()
            .is_some_and(|held| !held.secrets.is_empty())
            || !model.dropped.is_empty()
    });
    prop_assert_eq!(index.statistics().keys, keys.count());
    let held = models.iter().filter_map(|model| model.held.as_ref());
    let secrets: usize = held.map(|held| held.secrets.len()).sum();
    prop_assert_eq!(index.statistics().records, secrets);
    Ok(())
}

fn name(lookup: &Lookup) -> &'static str {
    match lookup {
        Lookup::Found(_) => "found",
        Lookup::Unknown => "unknown",
        Lookup::AskDatabase => "ask",
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]
    #[test]
    fn it_answers_like_plain_maps_and_nothing_older_ever_comes_back(steps in prop::collection::vec(step(), 1..80)) {
        let index = Index::new();
        let mut models: Vec<Model> = (0..KEYS).map(|_| Model::default()).collect();
        let (mut version, mut complete) = (0, false);
        for step in steps {
            version += 1;
            match step {
                Step::Change { key, .. } => {
                    models[key as usize].history.insert(version, changed(&index, key, version, &step));
                }
                Step::Apply { key, age, by_load } => {
                    let model = &mut models[key as usize];
                    let Some(image) = model.history.values().rev().nth(age as usize).cloned() else { continue };
                    let is_older = model.held.as_ref().is_some_and(|held| held.version > image.version)
                        || model.tombstone.is_some_and(|gone| gone >= image.version);
                    if by_load {
                        prop_assert_eq!(index.load_chunk([image.clone()]), usize::from(!is_older));
                    } else {
                        let expected = if is_older { Applied::Older } else { Applied::Applied };
                        prop_assert_eq!(index.apply_key(&image), expected);
                    }
                    if !is_older {
                        let had = model.held.iter().flat_map(|held| &held.secrets).map(|one| one.kid);
                        let had: Vec<_> = had.collect();
                        let all = (0..KIDS).map(|bit| number_of(key, bit));
                        if image.secrets.is_empty() && had.is_empty() && model.dropped.is_empty() {
                            // Nothing is held of it but that older images say nothing any more.
                            model.tombstone = Some(image.version - 1);
                        }
                        model.dropped.extend(all.filter(|number| had.contains(&kid(*number))));
                        let has: Vec<_> = image.secrets.iter().map(|one| one.kid).collect();
                        model.dropped.retain(|number| !has.contains(&kid(*number)));
                        model.doubts.retain(|doubt| *doubt > image.version);
                        model.held = Some(image);
                    }
                }
                Step::Doubt { key } => {
                    index.doubt_key(key_id(key), version);
                    models[key as usize].doubts.push(version);
                }
                Step::Settle { key } => {
                    if let Some(doubt) = models[key as usize].doubts.pop() {
                        index.settle_key(key_id(key), doubt);
                    }
                }
                Step::Remove { key } => {
                    prop_assert_eq!(index.remove_key(key_id(key), version), Applied::Applied);
                    let history = std::mem::take(&mut models[key as usize].history);
                    models[key as usize] = Model { history, tombstone: Some(version), ..Model::default() };
                }
                Step::Clear => {
                    index.clear();
                    complete = false;
                    for model in &mut models {
                        model.held = None;
                        model.dropped.clear();
                    }
                }
                Step::Complete(whether) => {
                    index.set_complete(whether);
                    complete = whether;
                }
            }
            check(&index, &models, complete)?;
        }
    }
}

#[test]
fn revoking_all_keys_of_an_owner_is_one_write() {
    let index = Index::new();
    let owner = index.intern_principal("person:1").unwrap();
    let mut key = image(&index, 1, 1);
    (key.owner, key.creator) = (Some(owner), Some(owner));
    index.apply_key(&key);
    assert_eq!(
        name(&index.lookup(kid(1), 0)),
        "ask",
        "its owner is not known yet"
    );
    let mut principal = PrincipalImage {
        id: owner,
        version: 3,
        disabled: false,
        permissions: key.scopes,
        keys_revoked_at: None,
    };
    assert_eq!(index.apply_principal(&principal), Applied::Applied);
    let facts = |index: &Index| match index.lookup(kid(1), 0) {
        Lookup::Found(found) => Some((found.owner.unwrap(), found.creator.unwrap())),
        _ => None,
    };
    let (owned, made) = facts(&index).unwrap();
    assert_eq!(
        (owned.keys_revoked_at, owned.disabled, owned.id),
        (None, false, owner)
    );
    assert_eq!(owned, made);

    index.doubt_principal(owner, 4);
    assert_eq!(facts(&index), None, "in doubt before the commit");
    principal.version = 2;
    assert_eq!(index.apply_principal(&principal), Applied::Older);
    assert_eq!(facts(&index), None);
    (principal.version, principal.keys_revoked_at) = (4, Some(77));
    index.apply_principal(&principal);
    assert_eq!(facts(&index).unwrap().0.keys_revoked_at, Some(77));
    index.doubt_principal(owner, 5);
    index.doubt_principal(owner, 6);
    index.settle_principal(owner, 5);
    assert_eq!(facts(&index), None, "another change is still under way");
    index.settle_principal(owner, 6);
    assert_eq!(facts(&index).unwrap().0.version, 4);
    index.doubt_principal(owner, 6);
    principal.version = 5;
    index.apply_principal(&principal);
    assert_eq!(
        facts(&index),
        None,
        "the image is older than what is in doubt"
    );
}

#[test]
fn a_first_use_is_claimed_once_and_survives_an_image_from_before() {
    let index = Index::new();
    index.apply_key(&image(&index, 1, 1));
    let found = |index: &Index| match index.lookup(kid(1), 0) {
        Lookup::Found(found) => found,
        other => panic!("{other:?}"),
    };
    let first = found(&index);
    assert!(!first.first_used);
    assert!(index.claim_first_use(&first));
    assert!(!index.claim_first_use(&first), "only once");
    index.apply_key(&image(&index, 1, 2));
    assert!(
        found(&index).first_used,
        "the image was read before the use was written"
    );
    assert!(!index.claim_first_use(&first), "the snapshot is old");
    index.unclaim_first_use(&found(&index));
    assert!(index.claim_first_use(&found(&index)));
}

#[test]
fn a_kid_of_another_key_is_refused_and_makes_the_index_incomplete() {
    let index = Index::new();
    index.set_complete(true);
    index.apply_key(&image(&index, 1, 1));
    assert_eq!(name(&index.lookup(kid(2), 0)), "unknown");
    let mut thief = image(&index, 2, 1);
    thief.secrets = vec![secret(&index, 1)];
    assert_eq!(index.apply_key(&thief), Applied::NotHeld);
    assert_eq!(name(&index.lookup(kid(1), 0)), "found");
    assert_eq!(
        name(&index.lookup(kid(2), 0)),
        "ask",
        "something is not held, so nothing is unknown"
    );
    let mut huge = image(&index, 1, 1 << 40);
    assert_eq!(index.apply_key(&huge), Applied::NotHeld);
    assert_eq!(name(&index.lookup(kid(1), 0)), "ask");
    huge.version = 7;
    assert_eq!(index.apply_key(&huge), Applied::Applied);
    assert_eq!(name(&index.lookup(kid(1), 0)), "found");
}

#[test]
fn absent_kids_are_remembered_for_their_time_and_only_until_they_come_to_be() {
    let index = Index::new();
    assert_eq!(name(&index.lookup(kid(1), 0)), "ask");
    let (question, late) = (index.ask(kid(1)), index.ask(kid(1)));
    index.note_absent(question, 1000);
    assert_eq!(name(&index.lookup(kid(1), 999)), "unknown");
    assert_eq!(name(&index.lookup(kid(1), 1000)), "ask");
    assert_eq!(name(&index.lookup(kid(2), 0)), "ask");
    index.apply_key(&image(&index, 1, 1));
    assert_eq!(name(&index.lookup(kid(1), 0)), "found");
    // The key goes again; an answer from before it came says nothing about it.
    index.remove_key(key_id(1), 2);
    index.note_absent(late, 1000);
    assert_eq!(name(&index.lookup(kid(1), 0)), "ask");
    let before = index.statistics().bytes;
    for number in 0..200_000 {
        index.note_absent(index.ask(kid(number)), 1000);
    }
    assert!(
        index.statistics().bytes < before + 1_000_000,
        "a flood takes no memory"
    );
}
