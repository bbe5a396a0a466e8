//! Uses wait in memory for the next flush, in a room that is bounded, as is what the database keeps of
//! one key's callers: what a key's holder writes into a request must not fill either.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use keywright_domain::api_keys::{NetworkList, RotationRequest};
use keywright_domain::audit::Actor;
use keywright_registry::{
    Caller, Issued, LocalRegistry, OTHER_CALLERS, Peppers, ProposedChange, VerifyRequest,
};
use keywright_server::settings::Settings;
use keywright_server::{Server, ServerSecrets};
use sqlx::AssertSqlSafe;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::fixture::Place;
use super::{Fixture, Kind, START, wish};

const HOUR: i64 = 60 * 60 * 1000;

async fn verified(
    registry: &LocalRegistry,
    peppers: &Peppers,
    issued: &Issued,
    label: &str,
) -> Result<&'static str> {
    let request = VerifyRequest {
        presented: issued.plain.text().expose(),
        caller: Caller {
            client_label: Some(label),
            ..Caller::default()
        },
        ..VerifyRequest::default()
    };
    Ok(registry.verify_api_key(&request, peppers).await?.code())
}

async fn number(connection: &mut sqlx::AnyConnection, sql: String) -> Result<i64> {
    Ok(sqlx::query_scalar(AssertSqlSafe(sql))
        .fetch_one(connection)
        .await?)
}

/// The value of a figure.
async fn figure(issuer: &str, name: &str) -> Result<i64> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let text = client.get(format!("{issuer}/metrics")).send().await?;
    let text = text.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line
        .with_context(|| format!("no {name}: {text}"))?
        .trim()
        .parse()?)
}

async fn a_full_queue(kind: Kind) -> Result<()> {
    let place = Place::new(kind).await?;
    let registry = place.open().await?;
    let folder = place.folder().join("secrets");
    let secrets = ServerSecrets::create(&folder)?;
    let pepper = keywright_server::prepare(&registry, &secrets).await?;
    let peppers = secrets.peppers(&[pepper])?.context("no pepper")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let issuer = format!("http://{}", listener.local_addr()?);
    let settings = Settings::new(&issuer, place.folder().to_owned())?;
    let server = Server::build(settings, registry.clone(), secrets, place.clock()).await?;
    let stop = CancellationToken::new();
    let until = stop.clone();
    let served =
        tokio::spawn(async move { keywright_server::serve(&server, listener, until).await });

    let actor = Actor::person("tester");
    let busy = registry
        .issue_api_key(&actor, &wish("busy"), &peppers)
        .await?;
    let fresh = registry
        .issue_api_key(&actor, &wish("fresh"), &peppers)
        .await?;
    ensure!(verified(&registry, &peppers, &busy, "").await? == "valid");
    registry.flush_uses().await?;
    let mut made = 1;
    ensure!(figure(&issuer, "keywright_uses_dropped_total ").await? == 0);

    // Somebody else writes, for as long as he likes: nothing can be flushed. Each hour has some callers
    // to count, until there is no room.
    let mut stranger = {
        use sqlx::Connection as _;
        sqlx::any::install_default_drivers();
        sqlx::AnyConnection::connect(&place.url()).await?
    };
    sqlx::raw_sql(match kind {
        Kind::Sqlite => "BEGIN IMMEDIATE",
        Kind::Postgres => "BEGIN; SELECT id FROM heads FOR UPDATE",
    })
    .execute(&mut stranger)
    .await?;
    let labels: Vec<String> = (0..250).map(|number| format!("caller {number}")).collect();
    let mut hour = 0;
    while registry.use_statistics().dropped < 1000 {
        hour += 1;
        place.set_clock(START + hour * HOUR);
        for label in &labels {
            ensure!(verified(&registry, &peppers, &busy, label).await? == "valid");
            made += 1;
        }
        ensure!(hour < 2000, "the queue is never full");
    }
    ensure!(registry.use_statistics().waiting <= 200_000);
    // A secret that was never used before: accepted, and its first use waits.
    ensure!(verified(&registry, &peppers, &fresh, "").await? == "valid");
    ensure!(registry.use_statistics().first_uses_waiting == 1);
    ensure!(figure(&issuer, "keywright_first_uses_waiting ").await? == 1);
    let first_used = place.now();

    sqlx::raw_sql("ROLLBACK").execute(&mut stranger).await?;
    // What is in flight comes back first, or is written.
    while registry.use_statistics().waiting > 0 || registry.use_statistics().first_uses_waiting > 0
    {
        let _ = registry.flush_uses().await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    registry.flush_uses().await?;
    let kid = busy.key.secrets[0].kid.as_str();
    let sql = format!("SELECT use_count FROM secrets WHERE kid = '{kid}'");
    let counted = number(&mut stranger, sql).await?;
    let dropped = i64::try_from(registry.use_statistics().dropped)?;
    // The fresh one's use found a place, or is one of those that were dropped.
    let kid = fresh.key.secrets[0].kid.as_str();
    let sql = format!("SELECT use_count FROM secrets WHERE kid = '{kid}'");
    let of_fresh = number(&mut stranger, sql).await?;
    ensure!(
        counted + of_fresh + dropped == made + 1,
        "{counted} and {of_fresh} counted, {dropped} dropped, {made} and one made"
    );
    let sql = format!("SELECT first_used_at FROM secrets WHERE kid = '{kid}'");
    ensure!(
        number(&mut stranger, sql).await? == first_used,
        "its first use is lost"
    );
    ensure!(figure(&issuer, "keywright_uses_dropped_total ").await? == dropped);
    ensure!(figure(&issuer, "keywright_uses_waiting ").await? == 0);
    stop.cancel();
    served.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_counts_and_shows_its_drops_and_keeps_first_uses_on_sqlite() -> Result<()> {
    a_full_queue(Kind::Sqlite).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_counts_and_shows_its_drops_and_keeps_first_uses_on_postgresql() -> Result<()>
{
    a_full_queue(Kind::Postgres).await
}

async fn callers_are_bounded(kind: Kind) -> Result<()> {
    let fixture = Fixture::on(kind).await?;
    let (registry, peppers) = (&fixture.registry, &fixture.peppers);
    let busy = fixture.issue("busy").await?;
    let kid = busy.key.secrets[0].kid.as_str().to_owned();
    let mut stranger = fixture.stranger().await?;
    // Never so many at once that memory is full: the database has its own bound.
    for round in 0..6 {
        for visitor in 0..100 {
            let label = format!("visitor {round}-{visitor}");
            ensure!(verified(registry, peppers, &busy, &label).await? == "valid");
        }
        registry.flush_uses().await?;
    }
    // One that is known is still counted by its name.
    for _ in 0..7 {
        ensure!(verified(registry, peppers, &busy, "visitor 0-0").await? == "valid");
    }
    registry.flush_uses().await?;
    let counted = async |stranger: &mut sqlx::AnyConnection, which: &str, what: &str| {
        let sql =
            format!("SELECT CAST({what} AS BIGINT) FROM use_rollups WHERE kid = '{kid}' {which}");
        number(stranger, sql).await
    };
    let others = format!("AND client_label = '{OTHER_CALLERS}'");
    ensure!(counted(&mut stranger, "", "COUNT(*)").await? == 257);
    ensure!(
        counted(&mut stranger, "", "SUM(count)").await? == 607,
        "none is lost"
    );
    ensure!(counted(&mut stranger, &others, "SUM(count)").await? == 600 - 256);
    let known = "AND client_label = 'visitor 0-0'";
    ensure!(counted(&mut stranger, known, "SUM(count)").await? == 8);
    // Another node that has not looked for a while brings as many more at most.
    let second = fixture.second().await?;
    for round in 0..4 {
        for visitor in 0..100 {
            let label = format!("elsewhere {round}-{visitor}");
            ensure!(verified(&second, peppers, &busy, &label).await? == "valid");
        }
        second.flush_uses().await?;
    }
    ensure!(
        counted(&mut stranger, "", "COUNT(*)").await? == 257,
        "it asks before its first"
    );
    ensure!(counted(&mut stranger, "", "SUM(count)").await? == 1007);
    // The next hour begins anew.
    fixture.set_clock(START + HOUR);
    ensure!(verified(registry, peppers, &busy, "visitor 9").await? == "valid");
    registry.flush_uses().await?;
    ensure!(counted(&mut stranger, "", "COUNT(*)").await? == 258);

    // Whoever looks is told of them, and of what is not known of them.
    fixture
        .rotate_as(&busy.key.id, &RotationRequest::default())
        .await?;
    let board = registry.stragglers(&busy.key.id).await?;
    let others = board
        .remaining
        .iter()
        .find(|one| one.caller.client_label == OTHER_CALLERS);
    ensure!(
        others.map(|one| one.old_uses) == Some(600 - 256 + 400),
        "{board:?}"
    );
    let networks = NetworkList::new(["10.0.0.0/8"])?;
    let change = ProposedChange::Networks(networks);
    let preview = registry
        .preview_change(std::slice::from_ref(&busy.key.id), &change, 7)
        .await?;
    ensure!(preview.uncertain == 600 - 256 + 400, "{preview:?}");

    // The same holds for who uses a secret that has ended.
    registry
        .revoke_api_key(&fixture.actor, &busy.key.id, "")
        .await?;
    for round in 0..4 {
        for visitor in 0..50 {
            let label = format!("visitor {round}-{visitor}");
            ensure!(verified(registry, peppers, &busy, &label).await? == "revoked");
        }
        registry.flush_uses().await?;
    }
    let sql = format!("SELECT COUNT(*) FROM alerts WHERE kid = '{kid}'");
    ensure!(number(&mut stranger, sql).await? == 65);
    let sql = format!("SELECT CAST(SUM(count) AS BIGINT) FROM alerts WHERE kid = '{kid}'");
    ensure!(number(&mut stranger, sql).await? == 200, "none is lost");
    let sql =
        format!("SELECT count FROM alerts WHERE kid = '{kid}' AND caller = '{OTHER_CALLERS}'");
    ensure!(number(&mut stranger, sql).await? == 200 - 64);
    Ok(())
}

#[tokio::test]
async fn a_keys_holder_cannot_fill_the_database_with_callers_on_sqlite() -> Result<()> {
    callers_are_bounded(Kind::Sqlite).await
}

#[tokio::test]
async fn a_keys_holder_cannot_fill_the_database_with_callers_on_postgresql() -> Result<()> {
    callers_are_bounded(Kind::Postgres).await
}
