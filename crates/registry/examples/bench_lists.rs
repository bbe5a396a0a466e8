//! Measures lists of keys in process: pages of 50 at any depth, filters, searches, counts, and what
//! the search index adds to issuing. With `KEYWRIGHT_TEST_POSTGRES` set, on PostgreSQL too.
//! One JSON object a line; `ratio` is the time with 1 M (or 10 M) keys to the time with 100 k (the first
//! size). At the end of a size, `page_depth_…` is the worst order's deep page and `search_…_p99_ms` the worst search.
//!
//! `bench_lists [sqlite] [postgres] [issue] [10m|small]`: without words, everything but the largest size,
//! which takes long to fill; `small` is 1 k and 10 k keys, to see that it works.
//! `bench_lists fill FILE SIZE [whole]` adds keys for about a minute and fails until all are there and
//! indexed (`whole`: for as long as it takes); `bench_lists file FILE (pages|filters|searches|all)` then measures
//! it, beside a small file: 100 k keys, a tenth of FILE's if that is less.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench, not the product"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use keywright_domain::api_keys::{DAY_MS, Environment, NewApiKey, Pepper};
use keywright_domain::audit::Actor;
use keywright_domain::scopes::Scope;
use keywright_registry::{
    ApiKeyFilter, ApiKeyOrder, ApiKeyQuery, Clock, LocalRegistry, PepperKey, Peppers, StateFilter,
};
use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe, Connection};

const SIZES: [(&str, i64); 3] = [("100k", 100_000), ("1m", 1_000_000), ("10m", 10_000_000)];
const SMALL: [(&str, i64); 2] = [("1k", 1_000), ("10k", 10_000)];
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
const CALLS: usize = 200;
/// At most so far down is a deep page: the way there takes long, the page itself does not.
const DEEP: i64 = 1_000_000;

/// Medians of the first size by case, and the worst of each size.
type Known = HashMap<String, f64>;

const WORST_PAGE: &str = "worst page ";
const WORST_DEPTH: &str = "worst depth ";
const WORST_SEARCH: &str = "worst search ";
const INDEX_BUILT: &str = "search_index_built";

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<()> {
    // The registry does so when it opens; here connections come first.
    sqlx::any::install_default_drivers();
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, file, what, rest @ ..] = words.as_slice() {
        match (word.as_str(), rest) {
            ("fill", []) => return fill_file(file, what.parse()?, TURN).await,
            ("fill", [whole]) if whole == "whole" => {
                return fill_file(file, what.parse()?, Duration::MAX).await;
            }
            ("file", []) => return measure_file(file, what).await,
            _ => {}
        }
    }
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    let sizes = match (has("small"), has("10m")) {
        (true, _) => &SMALL[..],
        (_, true) => &SIZES[..],
        _ => &SIZES[..2],
    };
    words.retain(|word| word != "10m" && word != "small");
    anyhow::ensure!(
        words
            .iter()
            .all(|word| ["sqlite", "postgres", "issue"].contains(&word.as_str())),
        "these words are not understood: {words:?}"
    );
    let wanted = |word: &str| words.is_empty() || words.iter().any(|given| given == word);
    if wanted("issue") {
        issue().await?;
    }
    if wanted("sqlite") {
        let mut known = Known::new();
        for &(label, size) in sizes {
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("registry.db");
            let registry = LocalRegistry::open(&file, Clock::system()).await?;
            let url = format!("sqlite://{}", file.display());
            prepare("sqlite", label, size, &url, &mut known).await?;
            measure("sqlite", label, size, &registry, &mut known, "all").await?;
            registry.close().await;
        }
    }
    let server = std::env::var("KEYWRIGHT_TEST_POSTGRES").ok();
    anyhow::ensure!(
        server.is_some() || words.is_empty() || !wanted("postgres"),
        "KEYWRIGHT_TEST_POSTGRES is not set"
    );
    if let Some(server) = server.filter(|_| wanted("postgres")) {
        let mut known = Known::new();
        for &(label, size) in sizes {
            let name = format!("bench_lists_{}_{label}", std::process::id());
            let mut admin = AnyConnection::connect(&server).await?;
            run(&mut admin, format!("CREATE DATABASE {name}")).await?;
            let (base, _) = server.rsplit_once('/').expect("an address with a database");
            let url = format!("{base}/{name}");
            let registry = LocalRegistry::open_postgres(&url, Clock::system()).await?;
            prepare("postgres", label, size, &url, &mut known).await?;
            measure("postgres", label, size, &registry, &mut known, "all").await?;
            registry.close().await;
            run(&mut admin, format!("DROP DATABASE {name} WITH (FORCE)")).await?;
        }
    }
    Ok(())
}

async fn run(connection: &mut AnyConnection, sql: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await?;
    Ok(())
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// How long one call of `fill` works: whoever waits for the machine gets it then.
const TURN: Duration = Duration::from_secs(50);

async fn fill_file(file: &str, size: i64, turn: Duration) -> Result<()> {
    let began = Instant::now();
    let registry = LocalRegistry::open(std::path::Path::new(file), Clock::system()).await?;
    let mut connection = AnyConnection::connect(&format!("sqlite://{file}")).await?;
    run(
        &mut connection,
        "PRAGMA cache_size = -1000000; PRAGMA synchronous = OFF".to_owned(),
    )
    .await?;
    let mut there: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM api_keys")
        .fetch_one(&mut connection)
        .await?;
    if there == 0 {
        owners(&mut connection).await?;
    }
    while there < size {
        anyhow::ensure!(began.elapsed() < turn, "{there} of {size} keys are there");
        let until = (there + 200_000).min(size);
        fill(&mut connection, (there + 1, until), size).await?;
        there = until;
    }
    loop {
        let waiting: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM api_key_search_pending")
            .fetch_one(&mut connection)
            .await?;
        if waiting == 0 {
            registry.close().await;
            return Ok(());
        }
        anyhow::ensure!(began.elapsed() < turn, "{waiting} keys wait for the index");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn measure_file(file: &str, what: &str) -> Result<()> {
    anyhow::ensure!(
        ["pages", "filters", "searches", "all"].contains(&what),
        "what is {what}?"
    );
    let large = LocalRegistry::open(std::path::Path::new(file), Clock::system()).await?;
    let mut connection = AnyConnection::connect(&format!("sqlite://{file}")).await?;
    let size: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM api_keys")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    anyhow::ensure!(size >= 10, "{file} has {size} keys");
    let beside = (size / 10).min(100_000);
    let mut known = Known::new();
    let folder = tempfile::tempdir()?;
    let small = folder.path().join("registry.db");
    let registry = LocalRegistry::open(&small, Clock::system()).await?;
    let url = format!("sqlite://{}", small.display());
    let label = label(beside);
    prepare("sqlite", &label, beside, &url, &mut known).await?;
    measure("sqlite", &label, beside, &registry, &mut known, what).await?;
    registry.close().await;
    measure("sqlite", &self::label(size), size, &large, &mut known, what).await?;
    large.close().await;
    Ok(())
}

fn label(size: i64) -> String {
    match size {
        1_000_000.. => format!("{}m", size / 1_000_000),
        1_000.. => format!("{}k", size / 1_000),
        _ => size.to_string(),
    }
}

async fn owners(connection: &mut AnyConnection) -> Result<()> {
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < 999) \
         INSERT INTO principals (id, kind, name, permissions, created_at, epoch) \
         SELECT 'owner' || i, 'service', 'owner', '*:*', 0, 0 FROM n",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keys of a thousand owners in every state, one a second until now: from one to another of so many.
async fn fill(connection: &mut AnyConnection, (from, to): (i64, i64), size: i64) -> Result<()> {
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT CAST($3 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $4), \
         f(i, name, kid, tag) AS (SELECT i, 'svc-' || (i * 7919 % 99991) || ' region ' || (i % 17), \
           'K' || (i * 2654435761 % 99999999977), 'team-' || (i % 50) FROM n) \
         INSERT INTO api_keys (id, name, prefix, scopes, epoch, created_at, name_key, search_text, kid, last_four, \
         expires_order, old_works_until, works_until, last_used_order, owner_id, owner_kind, environment, tags, \
         revoked_at, disabled_at) \
         SELECT 'id' || (i * 48271 % 2147483647), name, CASE WHEN i % 10 = 0 THEN 'sk_test' ELSE 'sk_live' END, \
         CASE WHEN i % 20000 = 5 THEN 'audit:read' ELSE 'keys:read' END, 1, $2 - ($1 - i) * 1000, name, \
         lower(name || ' sk_live ' || CASE WHEN i % 20000 = 5 THEN 'audit:read' ELSE 'keys:read' END || ' ' \
           || tag || ' ' || kid), kid, 'aaaa', \
         $2 + (i * 7919 % 400 - 100) * 86400000, 0, $2 + (i * 7919 % 400 - 100) * 86400000, \
         CASE WHEN i % 3 = 0 THEN 0 ELSE $2 - (i * 31 % 8640000) * 1000 END, 'owner' || (i % 1000), 'service', \
         CASE WHEN i % 50000 = 7 THEN 'rare' WHEN i % 10 = 0 THEN 'test' ELSE 'live' END, ' ' || tag || ' ', \
         CASE WHEN i % 33 = 0 THEN $2 - 1 END, CASE WHEN i % 101 = 0 THEN $2 - 1 END FROM f",
    )
    .bind(size)
    .bind(now())
    .bind(from)
    .bind(to)
    .execute(connection)
    .await?;
    Ok(())
}

/// Milliseconds at the 50th and the 99th percentile.
async fn time(mut call: impl AsyncFnMut()) -> (f64, f64) {
    let began = Instant::now();
    call().await;
    let (mut times, mut calls) = (Vec::new(), 0);
    while calls < CALLS && began.elapsed() < Duration::from_secs(1) {
        let began = Instant::now();
        call().await;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        calls += 1;
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    (at(0.5), at(0.99))
}

fn tell(
    place: &str,
    label: &str,
    case: &str,
    (median, p99): (f64, f64),
    known: &mut Known,
    note: &str,
) {
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    let before = known.get(case).copied();
    known.entry(case.to_owned()).or_insert(median);
    let worst = |known: &mut Known, name: &str, value: f64| {
        let worst = known.entry(format!("{name}{place}_{label}")).or_insert(0.0);
        *worst = worst.max(value);
    };
    if case.starts_with("page_deep_") {
        worst(known, WORST_PAGE, median);
        if let Some(before) = before {
            worst(known, WORST_DEPTH, median / before);
        }
    } else if case.starts_with("search_") && case != INDEX_BUILT {
        worst(known, WORST_SEARCH, p99);
    }
    println!(
        "{}",
        json!({
            "bench": "lists", "case": format!("{case}_{place}_{label}"), "value": round(median), "unit": "ms",
            "p99": round(p99), "baseline": before.map(round), "baseline_is": before.map(|_| "the same with the first size's keys"),
            "ratio": before.map(|before| round(median / before)), "note": note,
        })
    );
}

async fn prepare(place: &str, label: &str, size: i64, url: &str, known: &mut Known) -> Result<()> {
    let mut connection = AnyConnection::connect(url).await?;
    if place == "postgres" {
        run(&mut connection, "SET statement_timeout = 0".to_owned()).await?;
    }
    let began = Instant::now();
    owners(&mut connection).await?;
    fill(&mut connection, (1, size), size).await?;
    let filled = began.elapsed().as_secs_f64() * 1e3;
    tell(place, label, "fill", (filled, filled), known, "by SQL");
    let began = Instant::now();
    loop {
        let waiting: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM api_key_search_pending")
            .fetch_one(&mut connection)
            .await?;
        if waiting == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let indexed = began.elapsed().as_secs_f64() * 1e3;
    tell(
        place,
        label,
        INDEX_BUILT,
        (indexed, indexed),
        known,
        "in the background",
    );
    if place == "postgres" {
        run(&mut connection, "VACUUM ANALYZE api_keys".to_owned()).await?;
    }
    Ok(())
}

/// Pages, filters, searches or all of them.
async fn measure(
    place: &str,
    label: &str,
    size: i64,
    registry: &LocalRegistry,
    known: &mut Known,
    what: &str,
) -> Result<()> {
    if what == "pages" || what == "all" {
        pages(place, label, size, registry, known).await?;
    }
    if what != "pages" {
        narrowed(place, label, registry, known, what).await?;
    }
    tell_worst(place, label, known);
    Ok(())
}

/// The rows of the design: nothing for the first size, which the others are compared with.
fn tell_worst(place: &str, label: &str, known: &Known) {
    // SQLite is where 10 M keys are measured, and has the names of the design.
    let at = if place == "sqlite" {
        label.to_owned()
    } else {
        format!("{place}_{label}")
    };
    let round = |value: f64| (value * 1000.0).round() / 1000.0;
    let worst = |name: &str| known.get(&format!("{name}{place}_{label}")).copied();
    if let (Some(page), Some(depth)) = (worst(WORST_PAGE), worst(WORST_DEPTH)) {
        println!(
            "{}",
            json!({
                "bench": "lists", "case": format!("page_depth_{at}"), "value": round(page), "unit": "ms",
                "ratio": round(depth), "baseline_is": "the same order with the first size's keys",
                "note": "the worst of eight orders: its time, and its ratio",
            })
        );
    }
    if let Some(p99) = worst(WORST_SEARCH) {
        println!(
            "{}",
            json!({
                "bench": "lists", "case": format!("search_{at}_p99_ms"), "value": round(p99), "unit": "ms",
                "note": "the worst p99 of all searches",
            })
        );
    }
}

/// Filters and searches, or searches alone.
async fn narrowed(
    place: &str,
    label: &str,
    registry: &LocalRegistry,
    known: &mut Known,
    what: &str,
) -> Result<()> {
    let wanted = |case: &str| match what {
        "searches" => case.starts_with("search_"),
        "filters" => case.starts_with("filter_"),
        _ => true,
    };
    for (case, filter, order) in filters() {
        if !wanted(case) {
            continue;
        }
        let query = ApiKeyQuery {
            filter,
            order,
            cursor: None,
            limit: 50,
        };
        let page = registry.list_api_keys(&query).await?;
        let total = page.total.expect("a total");
        let note = format!(
            "{} keys, total {}{}, {}",
            page.items.len(),
            if total.is_estimate { "about " } else { "" },
            total.count,
            if page.next_cursor.is_some() {
                "goes on"
            } else {
                "all"
            }
        );
        let first = time(async || drop(registry.list_api_keys(&query).await.unwrap())).await;
        tell(place, label, case, first, known, &note);
        if let Some(cursor) = page.next_cursor {
            let next = ApiKeyQuery {
                cursor: Some(cursor),
                ..query
            };
            let next = time(async || drop(registry.list_api_keys(&next).await.unwrap())).await;
            tell(
                place,
                label,
                &format!("{case}_next"),
                next,
                known,
                "second page, without a total",
            );
        }
    }
    if what == "searches" {
        return Ok(());
    }
    // Later calls would be answered from memory for some seconds.
    let began = Instant::now();
    let counts = registry.count_api_keys().await?;
    let counted = began.elapsed().as_secs_f64() * 1e3;
    tell(
        place,
        label,
        "counts_by_state",
        (counted, counted),
        known,
        &format!("{counts:?}"),
    );
    Ok(())
}

async fn pages(
    place: &str,
    label: &str,
    size: i64,
    registry: &LocalRegistry,
    known: &mut Known,
) -> Result<()> {
    for order in ORDERS {
        let mut query = ApiKeyQuery {
            order,
            limit: 50,
            ..ApiKeyQuery::default()
        };
        let first = time(async || drop(registry.list_api_keys(&query).await.unwrap())).await;
        tell(
            place,
            label,
            &format!("page_first_{order:?}"),
            first,
            known,
            "with a total",
        );
        query.limit = 500;
        for _ in 0..(size / 2).min(DEEP) / 500 {
            query.cursor = registry.list_api_keys(&query).await?.next_cursor;
        }
        query.limit = 50;
        let deep = time(async || drop(registry.list_api_keys(&query).await.unwrap())).await;
        tell(
            place,
            label,
            &format!("page_deep_{order:?}"),
            deep,
            known,
            "half-way down, or 1 M keys",
        );
    }
    Ok(())
}

fn filters() -> Vec<(&'static str, ApiKeyFilter, ApiKeyOrder)> {
    use ApiKeyOrder::{CreatedDesc, ExpiresAsc, LastUsedAsc, NameAsc};
    let now = now();
    let all = ApiKeyFilter::default;
    let text = |text: &str| ApiKeyFilter {
        text: text.into(),
        ..all()
    };
    let state = |state| ApiKeyFilter { state, ..all() };
    let owner = || ApiKeyFilter {
        owner: Some("owner77".into()),
        ..all()
    };
    let in_environment = |name: &str| ApiKeyFilter {
        environment: Some(Environment::new(name).unwrap()),
        ..all()
    };
    vec![
        ("filter_owner", owner(), CreatedDesc),
        ("filter_owner_by_name", owner(), NameAsc),
        (
            "filter_environment_tenth",
            in_environment("test"),
            CreatedDesc,
        ),
        (
            "filter_environment_tenth_by_name",
            in_environment("test"),
            NameAsc,
        ),
        (
            "filter_environment_rare_by_name",
            in_environment("rare"),
            NameAsc,
        ),
        (
            "filter_prefix_by_expiry",
            ApiKeyFilter {
                prefix: Some("sk_test".into()),
                ..all()
            },
            ExpiresAsc,
        ),
        ("filter_live", state(StateFilter::Live), CreatedDesc),
        (
            "filter_rotating_none",
            state(StateFilter::Rotating),
            CreatedDesc,
        ),
        ("filter_expiring", state(StateFilter::Expiring), ExpiresAsc),
        (
            "filter_expired_by_name",
            state(StateFilter::Expired),
            NameAsc,
        ),
        ("filter_disabled", state(StateFilter::Disabled), CreatedDesc),
        ("filter_revoked", state(StateFilter::Revoked), CreatedDesc),
        (
            "filter_never_used",
            state(StateFilter::NeverUsed),
            CreatedDesc,
        ),
        (
            "filter_scope_rare",
            ApiKeyFilter {
                scope: Some(Scope::new("audit:read").unwrap()),
                ..all()
            },
            NameAsc,
        ),
        (
            "filter_tag_fiftieth",
            ApiKeyFilter {
                tag: Some("team-7".into()),
                ..all()
            },
            NameAsc,
        ),
        (
            "filter_expires_before",
            ApiKeyFilter {
                expires_before: Some(now - 99 * DAY_MS),
                ..all()
            },
            NameAsc,
        ),
        (
            "filter_unused_since",
            ApiKeyFilter {
                unused_since: Some(now - 90 * DAY_MS),
                ..all()
            },
            LastUsedAsc,
        ),
        (
            "filter_created_between",
            ApiKeyFilter {
                created_from: Some(now - 60_000_000),
                created_until: Some(now - 50_000_000),
                ..all()
            },
            NameAsc,
        ),
        (
            "filter_several",
            ApiKeyFilter {
                state: StateFilter::Revoked,
                prefix: Some("sk_test".into()),
                tag: Some("team-30".into()),
                ..all()
            },
            NameAsc,
        ),
        (
            "filter_contradiction_of_wide_ones",
            ApiKeyFilter {
                environment: Some(Environment::TEST),
                tag: Some("team-7".into()),
                ..all()
            },
            NameAsc,
        ),
        ("search_common", text("region"), CreatedDesc),
        ("search_middling", text("svc-77"), CreatedDesc),
        ("search_rare", text("svc-12345 "), NameAsc),
        ("search_kid", text("K26544357"), CreatedDesc),
        ("search_none", text("zzzqqq"), CreatedDesc),
        (
            "search_none_of_common_parts",
            text("region keys"),
            CreatedDesc,
        ),
        ("search_wildcards", text("svc%77_"), CreatedDesc),
        ("search_short_common", text("sv"), CreatedDesc),
        ("search_short_none", text("zq"), CreatedDesc),
    ]
}

/// Issuing with the search index's triggers, beside issuing without them.
async fn issue() -> Result<()> {
    const KEYS: usize = 4_000;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        for indexed in [true, false] {
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("registry.db");
            let registry = LocalRegistry::open(&file, Clock::system()).await?;
            if !indexed {
                let url = format!("sqlite://{}", file.display());
                let mut stranger = AnyConnection::connect(&url).await?;
                run(&mut stranger, "DROP TRIGGER api_keys_insert".to_owned()).await?;
            }
            let peppers = Arc::new(Peppers::new(PepperKey {
                id: "p".into(),
                pepper: Pepper::from_bytes([7; 32]),
            }));
            let actor = Actor::person("bench");
            registry.adopt_pepper(&actor, "p").await?;
            let began = Instant::now();
            let mut submitters = Vec::new();
            for _ in 0..64 {
                let (registry, peppers, actor) =
                    (registry.clone(), Arc::clone(&peppers), actor.clone());
                submitters.push(tokio::spawn(async move {
                    for index in 0..KEYS / 64 {
                        let wish = NewApiKey {
                            name: format!("service {index} of the region"),
                            prefix: "sk_live".into(),
                            scopes: vec!["keys:read".into(), "users:read".into()],
                            lifetime_ms: Some(90 * DAY_MS),
                            ..NewApiKey::default()
                        };
                        registry
                            .issue_api_key(&actor, &wish, &peppers)
                            .await
                            .unwrap();
                    }
                }));
            }
            for submitter in submitters {
                submitter.await?;
            }
            let each = began.elapsed().as_secs_f64() * 1e6 / (KEYS / 64 * 64) as f64;
            if indexed { &mut with } else { &mut without }.push(each);
            registry.close().await;
        }
    }
    with.sort_by(f64::total_cmp);
    without.sort_by(f64::total_cmp);
    println!(
        "{}",
        json!({
            "bench": "lists", "case": "issue_with_search_index", "value": with[2].round(), "unit": "us",
            "baseline": without[2].round(), "baseline_is": "without its trigger",
            "ratio": (with[2] / without[2] * 1000.0).round() / 1000.0,
        })
    );
    Ok(())
}
