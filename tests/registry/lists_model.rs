//! Lists against a model: random filters, orders and page sizes, and the same question asked of
//! whole keys in memory.
#![allow(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use keywright_domain::api_keys::{
    ApiKey, ApiKeyState, DAY_MS, Environment, KeySettings, NewApiKey, Owner, OwnerKind,
    RotationRequest, SecretState, Tags,
};
use keywright_domain::scopes::{Scope, ScopeSet};
use keywright_registry::{
    ApiKeyChange, ApiKeyFilter, ApiKeyOrder, ApiKeyQuery, ApiKeySummary, Principal,
    PrincipalChange, RotationStep, StateFilter,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::lists::indexed;
use super::{Fixture, START, from_issue, wish};

const ORDERS: [ApiKeyOrder; 8] = [
    ApiKeyOrder::CreatedDesc,
    ApiKeyOrder::CreatedAsc,
    ApiKeyOrder::NameAsc,
    ApiKeyOrder::NameDesc,
    ApiKeyOrder::ExpiresAsc,
    ApiKeyOrder::ExpiresDesc,
    ApiKeyOrder::LastUsedDesc,
    ApiKeyOrder::LastUsedAsc,
];
const STATES: [StateFilter; 9] = [
    StateFilter::All,
    StateFilter::Live,
    StateFilter::Rotating,
    StateFilter::Expiring,
    StateFilter::Expired,
    StateFilter::Disabled,
    StateFilter::Revoked,
    StateFilter::Pending,
    StateFilter::NeverUsed,
];
const NAMES: [&str; 10] = [
    "alpha",
    "Beta",
    "beta",
    "100%_sure",
    "back\\slash",
    "ÄRGER",
    "a\u{308}rger",
    "本番 key",
    "🔑🔑🔑",
    "ΟΔΟΣ",
];
const TEXTS: [&str; 16] = [
    "",
    "ALPHA",
    "bet",
    "%",
    "_",
    "0%_s",
    "\\",
    "k\\s",
    "Ärger",
    "本番",
    "🔑🔑🔑",
    "οδος",
    "sk_live",
    "keys:r",
    "no such key",
    "team-a",
];
const PREFIXES: [&str; 3] = ["sk_live", "sk_test", "acme"];
const SCOPES: [&str; 7] = [
    "keys:read",
    "keys:write",
    "keys:*",
    "*:read",
    "*:*",
    "users:read",
    "audit:read",
];
const TAGS: [&str; 4] = ["team-a", "team-b", "t_x", "a1"];
const OWNERS: [&str; 4] = ["local", "ci", "fired", "leaked"];

/// The whole of a key, and its owner.
struct Known {
    key: ApiKey,
    owner: Principal,
}

impl Known {
    fn state(&self, now: i64) -> ApiKeyState {
        let revoked_with_all = self.owner.keys_revoked_at;
        if self.key.revoked_at.is_some()
            || revoked_with_all.is_some_and(|at| self.key.created_at <= at)
        {
            ApiKeyState::Revoked
        } else if self.key.disabled_at.is_some() || self.owner.disabled_at.is_some() {
            ApiKeyState::Disabled
        } else {
            self.key.state(now)
        }
    }

    /// When the last of its secrets ends: found by asking its state, not from its columns.
    fn is_over_by(&self, at: i64) -> bool {
        let live = |secret: &keywright_domain::api_keys::Secret| secret.state(at).verifies();
        !self.key.secrets.iter().any(live)
    }

    fn passes(&self, filter: &ApiKeyFilter, now: i64) -> bool {
        let (key, state) = (&self.key, self.state(now));
        let is_live = matches!(state, ApiKeyState::Active | ApiKeyState::Rotating);
        let by_state = match filter.state {
            StateFilter::All => true,
            StateFilter::Live => is_live,
            StateFilter::Rotating => state == ApiKeyState::Rotating,
            StateFilter::Expiring => is_live && self.is_over_by(now + 30 * DAY_MS),
            StateFilter::Expired => state == ApiKeyState::Expired,
            StateFilter::Disabled => state == ApiKeyState::Disabled,
            StateFilter::Revoked => state == ApiKeyState::Revoked,
            StateFilter::Pending => is_live && has_pending(key, now),
            StateFilter::NeverUsed => key.last_used_at().is_none(),
        };
        let end = key.current_secret(now).and_then(|secret| secret.expires_at);
        by_state
            && filter.owner.as_ref().is_none_or(|id| *id == key.owner.id)
            && filter
                .prefix
                .as_ref()
                .is_none_or(|text| text == key.prefix.as_str())
            && filter
                .environment
                .as_ref()
                .is_none_or(|one| *one == key.environment)
            && filter
                .scope
                .as_ref()
                .is_none_or(|scope| key.scopes.covers(scope))
            && filter
                .tag
                .as_ref()
                .is_none_or(|tag| key.settings.tags.as_slice().contains(tag))
            && filter
                .created_from
                .is_none_or(|from| key.created_at >= from)
            && filter
                .created_until
                .is_none_or(|until| key.created_at < until)
            && filter
                .expires_before
                .is_none_or(|at| end.is_some_and(|end| end < at))
            && filter
                .unused_since
                .is_none_or(|at| key.last_used_at().unwrap_or(0) < at)
            && self.holds(&filter.text)
    }

    fn holds(&self, text: &str) -> bool {
        let mut texts = vec![self.key.name.clone(), self.key.prefix.to_string()];
        texts.extend(
            self.key
                .scopes
                .as_slice()
                .iter()
                .map(|one| one.as_str().to_owned()),
        );
        texts.extend(self.key.settings.tags.as_slice().iter().cloned());
        texts.extend(self.key.secrets.iter().map(|one| one.kid.to_string()));
        let wanted = alike(text);
        texts.iter().any(|one| alike(one).contains(&wanted))
    }
}

fn has_pending(key: &ApiKey, now: i64) -> bool {
    let pending =
        |secret: &keywright_domain::api_keys::Secret| secret.state(now) == SecretState::Pending;
    key.secrets.iter().any(pending)
}

/// The few foldings that these names and texts need.
fn alike(text: &str) -> String {
    text.replace("a\u{308}", "ä")
        .to_lowercase()
        .replace('ς', "σ")
}

/// The place of a key in an order, smallest first, without the tie by id.
fn place(known: &Known, order: ApiKeyOrder, now: i64) -> (i64, String) {
    let key = &known.key;
    let expires = || key.current_secret(now).and_then(|secret| secret.expires_at);
    match order {
        ApiKeyOrder::CreatedDesc => (-key.created_at, String::new()),
        ApiKeyOrder::CreatedAsc => (key.created_at, String::new()),
        ApiKeyOrder::NameAsc | ApiKeyOrder::NameDesc => (0, alike(&key.name)),
        ApiKeyOrder::ExpiresAsc => (expires().unwrap_or(i64::MAX), String::new()),
        ApiKeyOrder::ExpiresDesc => (-expires().unwrap_or(i64::MAX), String::new()),
        ApiKeyOrder::LastUsedAsc => (key.last_used_at().unwrap_or(0), String::new()),
        ApiKeyOrder::LastUsedDesc => (-key.last_used_at().unwrap_or(0), String::new()),
    }
}

fn some<T: Clone>(random: &mut StdRng, one_in: u32, values: &[T]) -> Option<T> {
    random
        .random_ratio(1, one_in)
        .then(|| values.choose(random).cloned())
        .flatten()
}

fn random_filter(random: &mut StdRng, texts: &[String]) -> ApiKeyFilter {
    let moment = |random: &mut StdRng| START + random.random_range(-10..120) * DAY_MS;
    ApiKeyFilter {
        text: some(random, 3, texts).unwrap_or_default(),
        state: some(random, 2, &STATES).unwrap_or_default(),
        owner: some(random, 5, &OWNERS).map(str::to_owned),
        prefix: some(random, 6, &PREFIXES).map(str::to_owned),
        scope: some(random, 6, &SCOPES).map(|text| Scope::new(text).expect("a scope")),
        environment: some(random, 6, &[Environment::LIVE, Environment::TEST]),
        expires_before: random.random_ratio(1, 6).then(|| moment(random)),
        unused_since: random.random_ratio(1, 6).then(|| moment(random)),
        tag: some(random, 6, &TAGS).map(str::to_owned),
        created_from: random.random_ratio(1, 7).then(|| moment(random)),
        created_until: random.random_ratio(1, 7).then(|| moment(random)),
    }
}

fn random_wish(random: &mut StdRng) -> NewApiKey {
    let scopes: BTreeSet<_> = (0..random.random_range(1..4))
        .filter_map(|_| SCOPES.choose(random))
        .collect();
    let tags: Vec<_> = TAGS.iter().filter(|_| random.random_ratio(1, 4)).collect();
    let owner = OWNERS.choose(random).copied().unwrap_or("local");
    let kind = if owner == "local" {
        OwnerKind::Person
    } else {
        OwnerKind::Service
    };
    NewApiKey {
        name: NAMES.choose(random).copied().unwrap_or("x").to_owned(),
        prefix: PREFIXES
            .choose(random)
            .copied()
            .unwrap_or("sk_live")
            .to_owned(),
        scopes: scopes.into_iter().map(|one| (*one).to_owned()).collect(),
        lifetime_ms: random
            .random_ratio(4, 5)
            .then(|| random.random_range(1..120) * DAY_MS),
        allow_never_expires: true,
        environment: some(random, 2, &[Environment::LIVE, Environment::TEST]),
        owner: Some(Owner::new(kind, owner).expect("an owner")),
        settings: KeySettings {
            tags: Tags::new(tags.into_iter().copied()).expect("tags"),
            ..KeySettings::default()
        },
        ..wish("")
    }
}

/// Many keys in every state.
async fn populate(fixture: &Fixture, random: &mut StdRng, count: i64) -> Result<Vec<String>> {
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    for id in &OWNERS[1..] {
        registry
            .create_principal(actor, id, OwnerKind::Service, id, &ScopeSet::everything())
            .await?;
    }
    let mut ids = Vec::new();
    for index in 0..count {
        fixture.set_clock(START + index / 3 * DAY_MS); // ties on purpose
        let wish = random_wish(random);
        let issued = fixture.issue_as(&wish).await?;
        let id = issued.key.id.clone();
        if random.random_ratio(1, 2) {
            assert_eq!(fixture.code(&issued).await?, "valid");
        }
        // Short-lived keys cannot have every overlap, and that is no matter here.
        match random.random_range(0..10) {
            0 => drop(fixture.rotate(&id, DAY_MS).await),
            1 => drop(fixture.rotate_as(&id, &RotationRequest::default()).await),
            2 => {
                let rotated = fixture.rotate_as(&id, &from_issue(DAY_MS * 20)).await;
                if rotated.is_ok() {
                    let step = RotationStep::Promote;
                    registry.step_rotation(actor, &id, step).await?;
                }
            }
            3 => {
                if let Ok(new) = fixture.rotate_as(&id, &RotationRequest::default()).await {
                    fixture.verify(&new).await?;
                }
            }
            4 => drop(registry.revoke_api_key(actor, &id, "why").await?),
            5 => drop(registry.disable_api_key(actor, &id, "").await?),
            6 => drop(registry.mark_api_key_exposed(actor, &id, "a page").await?),
            _ => {}
        }
        ids.push(id);
        if index == count * 2 / 3 {
            let change = PrincipalChange::RevokeKeys("leak".into());
            registry.change_principal(actor, "leaked", &change).await?;
        }
    }
    let change = PrincipalChange::Disable("gone".into());
    registry.change_principal(actor, "fired", &change).await?;
    registry.flush_uses().await?;
    Ok(ids)
}

async fn load(fixture: &Fixture, ids: &[String]) -> Result<HashMap<String, Known>> {
    let mut known = HashMap::new();
    for id in ids {
        let (key, _) = fixture.registry.find_api_key(id).await?;
        let owner = fixture.registry.find_principal(&key.owner.id).await?;
        known.insert(id.clone(), Known { key, owner });
    }
    Ok(known)
}

/// All pages, and what the first said of them all.
async fn walk(
    fixture: &Fixture,
    filter: &ApiKeyFilter,
    order: ApiKeyOrder,
    limit: u32,
) -> Result<Vec<ApiKeySummary>> {
    let (mut all, mut cursor, mut total) = (Vec::new(), None, None);
    loop {
        let query = ApiKeyQuery {
            filter: filter.clone(),
            order,
            cursor,
            limit,
        };
        let page = fixture.registry.list_api_keys(&query).await?;
        assert!(page.items.len() <= limit as usize);
        total = total.or(page.total);
        all.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            let total = total.expect("of the first page");
            assert_eq!((total.count, total.is_estimate), (all.len() as i64, false));
            return Ok(all);
        }
    }
}

fn check_summary(summary: &ApiKeySummary, known: &Known, now: i64) {
    let (key, state) = (&known.key, known.state(now));
    assert_eq!(summary.state, state, "{key:?}");
    assert_eq!(summary.name, key.name);
    assert_eq!(summary.owner, key.owner);
    assert_eq!(summary.environment, key.environment);
    assert_eq!(summary.tags, key.settings.tags.as_slice());
    assert_eq!(summary.exposed_at, key.exposed_at);
    assert_eq!(summary.last_used_at, key.last_used_at());
    assert_eq!(summary.revoked_at.is_some(), state == ApiKeyState::Revoked);
    if state != ApiKeyState::Revoked {
        assert_eq!(
            summary.disabled_at.is_some(),
            state == ApiKeyState::Disabled
        );
        assert_eq!(summary.has_pending_secret, has_pending(key, now));
    }
}

async fn compare(
    fixture: &Fixture,
    known: &HashMap<String, Known>,
    random: &mut StdRng,
    rounds: usize,
) -> Result<()> {
    let mut texts: Vec<String> = TEXTS.iter().map(|text| (*text).to_owned()).collect();
    let kids = known.values().map(|one| one.key.secrets[0].kid.to_string());
    texts.extend(kids.take(4).map(|kid| kid[2..8].to_uppercase()));
    let (mut found, mut several_pages) = (0, 0);
    for _ in 0..rounds {
        let now = START + random.random_range(0..150) * DAY_MS + random.random_range(0..2);
        fixture.set_clock(now);
        let filter = random_filter(random, &texts);
        let order = ORDERS.choose(random).copied().unwrap_or_default();
        let limit = [1, 2, 3, 7, 50, 500][random.random_range(0..6)];
        let listed = walk(fixture, &filter, order, limit).await?;
        let listed_ids: BTreeSet<_> = listed.iter().map(|one| one.id.clone()).collect();
        assert_eq!(
            listed_ids.len(),
            listed.len(),
            "no key twice: {filter:?} {order:?}"
        );
        let expected: BTreeSet<_> = known
            .iter()
            .filter(|(_, one)| one.passes(&filter, now))
            .map(|(id, _)| id.clone())
            .collect();
        assert_eq!(listed_ids, expected, "{filter:?} {order:?} at {now}");
        let mut places: Vec<_> = listed
            .iter()
            .map(|one| (place(&known[&one.id], order, now), one.id.clone()))
            .collect();
        if order == ApiKeyOrder::NameDesc {
            places.reverse();
        }
        let is_sorted = places.windows(2).all(|pair| pair[0].0 <= pair[1].0);
        assert!(is_sorted, "{order:?} {places:?}");
        for summary in &listed {
            check_summary(summary, &known[&summary.id], now);
        }
        found += usize::from(!listed.is_empty());
        several_pages += usize::from(listed.len() > limit as usize);
        let counts = fixture.registry.count_api_keys().await?;
        let count = |state| {
            let filter = ApiKeyFilter {
                state,
                ..ApiKeyFilter::default()
            };
            known
                .values()
                .filter(|one| one.passes(&filter, now))
                .count() as i64
        };
        assert_eq!(
            [
                counts.all,
                counts.live,
                counts.rotating,
                counts.expiring,
                counts.expired,
                counts.disabled,
                counts.revoked
            ],
            [
                StateFilter::All,
                StateFilter::Live,
                StateFilter::Rotating,
                StateFilter::Expiring,
                StateFilter::Expired,
                StateFilter::Disabled,
                StateFilter::Revoked,
            ]
            .map(count)
        );
    }
    assert!(
        found > rounds / 4 && several_pages > rounds / 12,
        "{found}, {several_pages}"
    );
    Ok(())
}

#[tokio::test]
async fn random_lists_agree_with_a_model() -> Result<()> {
    let fixture = super::fixture().await?;
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut ids = populate(&fixture, &mut random, 120).await?;
    let known = load(&fixture, &ids).await?;
    compare(&fixture, &known, &mut random, 80).await?;
    indexed(&fixture).await?;
    // Some of them under another name, some new: half of the index is right, half of it waits.
    fixture.set_clock(START + 50 * DAY_MS);
    for _ in 0..20 {
        let id = ids.choose(&mut random).expect("a key").clone();
        let change = ApiKeyChange {
            name: Some(NAMES[random.random_range(0..NAMES.len())].to_owned()),
            ..ApiKeyChange::default()
        };
        // A revoked key keeps its name.
        drop(
            fixture
                .registry
                .change_api_key(&fixture.actor, &id, &change)
                .await,
        );
        let owner = Some(Owner::new(OwnerKind::Service, "ci")?);
        let new = NewApiKey {
            owner,
            ..random_wish(&mut random)
        };
        ids.push(fixture.issue_as(&new).await?.key.id);
    }
    let known = load(&fixture, &ids).await?;
    compare(&fixture, &known, &mut random, 80).await?;
    indexed(&fixture).await?;
    compare(&fixture, &known, &mut random, 40).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_whole_while_others_issue_rotate_and_revoke() -> Result<()> {
    let fixture = Arc::new(super::fixture().await?);
    let mut random = StdRng::seed_from_u64(rand::random());
    let ids = populate(&fixture, &mut random, 60).await?;
    let known = load(&fixture, &ids).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let mut others = Vec::new();
    for worker in 0..3_u64 {
        let (fixture, stop) = (Arc::clone(&fixture), Arc::clone(&stop));
        let mut random = StdRng::seed_from_u64(worker);
        others.push(tokio::spawn(async move {
            let mut changed = 0;
            while !stop.load(Ordering::SeqCst) {
                let owner = Some(Owner::new(OwnerKind::Person, "local")?);
                let new = NewApiKey {
                    owner,
                    ..random_wish(&mut random)
                };
                let issued = fixture.issue_as(&new).await?;
                drop(fixture.rotate(&issued.key.id, DAY_MS).await);
                if random.random_ratio(1, 2) {
                    let (registry, actor) = (&fixture.registry, &fixture.actor);
                    registry.revoke_api_key(actor, &issued.key.id, "").await?;
                }
                changed += 1;
                // Whoever reads the list must be able to overtake those who make it longer.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            anyhow::Ok(changed)
        }));
    }
    let now = fixture.now();
    let mut whole = 0;
    for round in 0..60 {
        let texts = TEXTS.map(str::to_owned);
        let filter = random_filter(&mut random, &texts);
        let order = ORDERS[round % ORDERS.len()];
        let (mut seen, mut cursor) = (HashMap::<String, u32>::new(), None);
        loop {
            let query = ApiKeyQuery {
                filter: filter.clone(),
                order,
                cursor,
                limit: 5,
            };
            let page = fixture.registry.list_api_keys(&query).await?;
            for one in page.items {
                *seen.entry(one.id).or_default() += 1;
            }
            cursor = page.next_cursor;
            // Newer keys go on coming in some orders: what stays as it is was seen by then.
            if cursor.is_none() || seen.len() > 5_000 {
                break;
            }
        }
        let is_whole = cursor.is_none();
        for (id, one) in &known {
            let times = seen.get(id).copied().unwrap_or(0);
            let expected = u32::from(one.passes(&filter, now));
            // Of a list that was given up, what comes after its newest keys was not seen yet.
            let is_right = times == expected || (!is_whole && times < expected);
            assert!(is_right, "{times} {filter:?} {order:?} {:?}", one.key.name);
        }
        whole += usize::from(is_whole);
        // A key that others change may leave and come again further on, but not in these orders.
        let is_fixed = matches!(order, ApiKeyOrder::CreatedAsc | ApiKeyOrder::CreatedDesc);
        assert!(
            !is_fixed || seen.values().all(|times| *times == 1),
            "{order:?}"
        );
    }
    assert!(whole > 30, "{whole} of 60 lists were read to their end");
    stop.store(true, Ordering::SeqCst);
    for other in others {
        assert!(other.await?? > 0, "somebody changed something meanwhile");
    }
    Ok(())
}

/// More keys than a page's walk looks at in one go, made by a stranger's hand.
async fn fill(fixture: &Fixture, count: i64) -> Result<()> {
    let mut stranger = fixture.stranger().await?;
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) \
         INSERT INTO api_keys (id, name, prefix, scopes, epoch, created_at, name_key, search_text, kid, last_four, \
         expires_order, old_works_until, works_until, last_used_order) \
         SELECT 'filler' || i, 'filler', 'sk_live', 'keys:read', 1, i, 'filler ' || i % 1000, \
         CASE WHEN i % 7000 = 77 THEN 'qx' ELSE 'hay' END, 'kid' || i, 'aaaa', i, 0, i, 0 FROM n",
    )
    .bind(count)
    .execute(&mut stranger)
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_search_that_finds_little_ends_and_goes_on() -> Result<()> {
    const KEYS: i64 = 200_000;
    let fixture = super::fixture().await?;
    fill(&fixture, KEYS).await?;
    let filter = |text: &str| ApiKeyFilter {
        text: text.into(),
        ..ApiKeyFilter::default()
    };
    let expected = (1..=KEYS).filter(|i| i % 7000 == 77).count();
    for order in [
        ApiKeyOrder::CreatedDesc,
        ApiKeyOrder::NameAsc,
        ApiKeyOrder::ExpiresAsc,
    ] {
        for (text, count) in [("QX", expected), ("zz", 0)] {
            let (mut ids, mut sizes, mut cursor) = (BTreeSet::new(), Vec::new(), None);
            loop {
                let query = ApiKeyQuery {
                    filter: filter(text),
                    order,
                    cursor,
                    limit: 4,
                };
                let page = fixture.registry.list_api_keys(&query).await?;
                sizes.push(page.items.len());
                for one in page.items {
                    assert!(ids.insert(one.id), "none twice");
                }
                cursor = page.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(ids.len(), count, "{text} {order:?}");
            let expected_pages = if count == 0 { 2 } else { count.div_ceil(4) };
            assert!(sizes.len() >= expected_pages, "{sizes:?}");
        }
    }
    // Beyond 10,000 keys a total is about right, and says so.
    let query = ApiKeyQuery {
        limit: 5,
        ..ApiKeyQuery::default()
    };
    let total = fixture
        .registry
        .list_api_keys(&query)
        .await?
        .total
        .expect("a total");
    assert!(total.is_estimate && total.count >= 10_000, "{total:?}");
    let narrow = ApiKeyQuery {
        filter: ApiKeyFilter {
            created_until: Some(9_000),
            ..ApiKeyFilter::default()
        },
        order: ApiKeyOrder::NameAsc,
        ..query
    };
    let total = fixture
        .registry
        .list_api_keys(&narrow)
        .await?
        .total
        .expect("a total");
    assert_eq!((total.count, total.is_estimate), (8_999, false));
    Ok(())
}
