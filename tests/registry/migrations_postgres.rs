//! Every schema that PostgreSQL ever had, with rows in each of its tables, opened by this version; cut off in the
//! middle of a step, and by several nodes at once.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use keywright_domain::api_keys::{DAY_MS, Environment, Policy, PolicyEnvironment};
use keywright_domain::audit::Actor;
use keywright_registry::people::{NewSignIn, User};
use keywright_registry::{Clock, Issued, LocalRegistry, RegistryError, VerifyRequest};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, PgConnection};
use tokio::task::JoinHandle;

use super::model::check_chain;
use super::on_postgres::{grants, people};
use super::{Fixture, START, wish};
use crate::support::older::{
    Rows, fill_empty, go_back, narrowed, rows_of, shape, until_waiting, versions,
};
use crate::support::postgres::Database;

/// A database of today that somebody worked with, closed.
struct Lived {
    fixture: Fixture,
    ada: User,
    /// What verification says of each.
    keys: Vec<(Issued, &'static str)>,
    /// Of a public client, and of a confidential one.
    grants: [String; 2],
    rows: Rows,
    /// The newest schema, as it is made on nothing.
    shape: BTreeSet<String>,
}

async fn lived() -> Result<Lived> {
    let (fixture, ada) = grants::ready().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    people::person(&fixture, "boss", &["admin"]).await?;
    let mut keys = Vec::new();
    for (name, code) in [("kept", "valid"), ("off", "disabled"), ("ended", "revoked")] {
        let issued = fixture.issue(name).await?;
        ensure!(fixture.code(&issued).await? == "valid");
        match code {
            "disabled" => drop(registry.disable_api_key(actor, &issued.key.id, "").await?),
            "revoked" => drop(
                registry
                    .revoke_api_key(actor, &issued.key.id, "leak")
                    .await?,
            ),
            _ => {}
        }
        keys.push((issued, code));
    }
    // One whose new secret nobody used, and one in the middle of its overlap.
    for is_used in [false, true] {
        let old = fixture.issue("turning").await?;
        let new = fixture.rotate(&old.key.id, DAY_MS).await?;
        if is_used {
            ensure!(fixture.code(&new).await? == "valid");
        }
        keys.extend([(old, "valid"), (new, "valid")]);
    }
    registry
        .deny_access_token(actor, "jti", fixture.now() + DAY_MS)
        .await?;
    let allowed = grants::scopes("openid");
    registry
        .give_consent(actor, &ada.id, "app", None, &allowed)
        .await?;
    people::session_by(&fixture, &ada, "own", "pwd").await?;
    people::session_by(&fixture, &ada, "theirs", "fed").await?;
    registry.record_sign_in(&sign_in(&ada)).await?;
    let secret = people::token("secret");
    registry
        .add_client(actor, "web", &grants::confidential(), Some(&secret))
        .await?;
    let mut of = Vec::new();
    for refresh in ["r0", "r1"] {
        let grant = grants::grant_of(&fixture, &ada, refresh, refresh, None).await?;
        of.push(grant.id);
    }
    let grants: [String; 2] = of.try_into().map_err(|_| anyhow::anyhow!("two"))?;
    let policy = Policy {
        environment: PolicyEnvironment::One(Environment::LIVE),
        max_age_ms: Some(40 * DAY_MS),
        ..Policy::default_for(Environment::LIVE)
    };
    registry.set_policy(actor, &policy).await?;
    registry.flush_uses().await?;
    registry.close().await;

    let mut stranger = PgConnection::connect(&fixture.url()).await?;
    let shape = shape(&mut stranger).await?;
    fill_empty(&mut stranger).await?;
    // As 22 and 17 leave them.
    let bound = format!(
        "UPDATE grants SET dpop_jkt = 'k' WHERE id = '{}'; UPDATE grants SET client_id = 'web' WHERE id = '{}'; \
         UPDATE hygiene_questions SET state = 'cancelled', told_at = 0",
        grants[0], grants[1]
    );
    sqlx::raw_sql(AssertSqlSafe(bound))
        .execute(&mut stranger)
        .await?;
    let rows = rows_of(&mut stranger).await?;
    stranger.close().await?;
    let empty: Vec<_> = rows.iter().filter(|(_, rows)| rows.is_empty()).collect();
    ensure!(empty.is_empty() && rows.len() > 40, "{empty:?}");
    Ok(Lived {
        fixture,
        ada,
        keys,
        grants,
        rows,
        shape,
    })
}

fn sign_in(person: &User) -> NewSignIn {
    NewSignIn {
        user_id: Some(person.id.clone()),
        identifier: "ada@example.com".to_owned(),
        method: "password".to_owned(),
        failure: None,
        network: "192.0.2.1".to_owned(),
        user_agent: "Firefox".to_owned(),
        session_id: None,
        device: None,
    }
}

/// What later versions changed in rows that were there is as it was before them.
async fn undo(connection: &mut PgConnection, version: i64) -> Result<()> {
    for (versions, table, undone) in [
        (
            3..6,
            "roles",
            "UPDATE roles SET permissions = replace(permissions, ' webhooks:*', '')",
        ),
        // Before 4 there were no people.
        (
            4..6,
            "principals",
            "UPDATE principals SET permissions = replace(permissions, ' webhooks:*', '')",
        ),
        (
            16..17,
            "hygiene_questions",
            "UPDATE hygiene_questions SET told_at = NULL",
        ),
        (4..22, "grants", "UPDATE grants SET dpop_jkt = 'k'"),
    ] {
        let there = "SELECT to_regclass($1) IS NOT NULL";
        let there: bool = sqlx::query_scalar(there)
            .bind(table)
            .fetch_one(&mut *connection)
            .await?;
        if versions.contains(&version) && there {
            let done = sqlx::raw_sql(undone).execute(&mut *connection).await?;
            ensure!(done.rows_affected() > 0, "{undone}");
        }
    }
    Ok(())
}

async fn code(registry: &LocalRegistry, fixture: &Fixture, issued: &Issued) -> Result<String> {
    let request = VerifyRequest {
        presented: issued.plain.text().expose(),
        ..VerifyRequest::default()
    };
    let told = registry.verify_api_key(&request, &fixture.peppers).await?;
    Ok(told.code().to_owned())
}

/// All of them are as they were. Opening is one write, and heads count them.
fn ensure_kept(lived: &Lived, old: &Rows, now: &Rows) -> Result<()> {
    let without_writes = |rows: &Rows| {
        let mut rows = rows.clone();
        for head in rows.get_mut("heads").into_iter().flatten() {
            head.insert("writes".to_owned(), 0.into());
        }
        rows
    };
    let expected = narrowed(&without_writes(&lived.rows), old);
    let found = narrowed(&without_writes(now), old);
    for (table, rows) in &expected {
        let found = found.get(table).context("a table is gone")?;
        let (lost, new) = (rows.difference(found), found.difference(rows));
        let (lost, new): (Vec<_>, Vec<_>) = (lost.collect(), new.collect());
        ensure!(
            lost.is_empty() && new.is_empty(),
            "{table}: {lost:#?} became {new:#?}"
        );
    }
    Ok(())
}

/// What was stored means what it meant.
async fn ensure_serves(lived: &Lived, opened: &LocalRegistry, version: i64) -> Result<()> {
    let (fixture, ada) = (&lived.fixture, &lived.ada);
    for (issued, expected) in &lived.keys {
        let found = code(opened, fixture, issued).await?;
        ensure!(found == *expected, "{} is {found}", issued.key.name);
    }
    let new = opened
        .issue_api_key(&fixture.actor, &wish("new"), &fixture.peppers)
        .await?;
    ensure!(code(opened, fixture, &new).await? == "valid");
    if version < 4 {
        return Ok(());
    }
    // 20: what was denied before has no number, and is denied still.
    ensure!(opened.is_access_denied("jti", "", "").await?);
    // 14: what was allowed before resources were remembered counts for the own API.
    for (resource, allowed) in [(None, true), (Some("https://api.example.com"), false)] {
        let found = opened
            .find_consented_scopes(&ada.id, "app", resource)
            .await?;
        ensure!(found.is_some() == allowed, "{resource:?}");
    }
    // 15: what was proven here is proven; of what a provider said nothing is known.
    for (cookie, is_proven) in [("own", true), ("theirs", version >= 15)] {
        let found = opened.find_session(&people::token(cookie)).await?;
        let (session, _) = found.context("no session")?;
        let proven_at = if is_proven { START } else { 0 };
        ensure!(session.proven_at == proven_at, "{cookie}: {session:?}");
    }
    // 22: refresh tokens of confidential clients are not bound to a key, those of public ones are.
    for (id, key) in lived.grants.iter().zip([Some("k"), None]) {
        ensure!(opened.find_grant(id).await?.dpop_jkt.as_deref() == key);
    }
    // 24: the age that a policy allows has a column.
    let policies = opened.list_policies().await?;
    ensure!(
        policies
            .iter()
            .any(|one| one.max_age_ms == Some(40 * DAY_MS))
    );
    // 6: administrators manage webhooks.
    let found = people::role("admin");
    let roles = opened.list_roles().await?;
    let admin = roles.iter().find(|role| role.name == found);
    let held = admin.context("no admin")?.permissions.to_string();
    ensure!(held.contains("webhooks:*"), "{held}");
    Ok(())
}

#[tokio::test]
async fn ac_154_every_schema_of_postgres_is_migrated_with_all_its_rows() -> Result<()> {
    let lived = lived().await?;
    let newest = LocalRegistry::newest_schema();
    let versions = versions(newest).await?;
    ensure!(versions.len() > 15, "{versions:?}");
    let mut stranger = PgConnection::connect(&lived.fixture.url()).await?;
    for version in versions {
        let migrated = async {
            go_back(&mut stranger, &lived.rows, version).await?;
            undo(&mut stranger, version).await?;
            let old = rows_of(&mut stranger).await?;
            ensure!(old.values().all(|rows| !rows.is_empty()));
            let opened = lived.fixture.second().await?;
            let now = rows_of(&mut stranger).await?;
            ensure_kept(&lived, &old, &now)?;
            ensure!(opened.schema_version().await? == newest);
            let shape = shape(&mut stranger).await?;
            let other: Vec<_> = shape.symmetric_difference(&lived.shape).collect();
            ensure!(other.is_empty(), "another schema: {other:#?}");
            ensure_serves(&lived, &opened, version).await?;
            opened.close().await;
            check_chain(&mut lived.fixture.stranger().await?).await
        };
        migrated
            .await
            .with_context(|| format!("schema {version}"))?;
    }
    Ok(stranger.close().await?)
}

type Opening = JoinHandle<Result<LocalRegistry, RegistryError>>;

fn open(lived: &Lived) -> Opening {
    let (url, clock) = (lived.fixture.url(), lived.fixture.clock());
    tokio::spawn(async move { LocalRegistry::open_postgres(&url, clock).await })
}

/// Ends the session of somebody who is in the middle of something, as a crash does.
async fn terminate(connection: &mut PgConnection, who: i32) -> Result<()> {
    let ended: bool = sqlx::query_scalar("SELECT pg_terminate_backend($1, 10000)")
        .bind(who)
        .fetch_one(connection)
        .await?;
    ensure!(ended, "it goes on");
    Ok(())
}

/// Whoever reads a table in a long transaction, as `pg_dump` does, lets the step that changes it wait in its middle:
/// schema that is there, table that is read, schema that is whole when the next step waits.
const HELD: [(i64, &str, i64); 3] = [(4, "alerts", 5), (6, "rotations", 15), (6, "webhooks", 23)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_154_a_migration_that_is_cut_off_leaves_whole_steps_and_is_done_once() -> Result<()> {
    let lived = lived().await?;
    let newest = LocalRegistry::newest_schema();
    let url = lived.fixture.url();
    let mut looker = PgConnection::connect(&url).await?;
    let other = Database::create().await?;
    let mut beside = PgConnection::connect(other.url()).await?;
    for (version, table, whole) in HELD {
        go_back(&mut looker, &lived.rows, version).await?;
        undo(&mut looker, version).await?;
        let old = rows_of(&mut looker).await?;
        // That schema, made in peace.
        go_back(&mut beside, &lived.rows, whole).await?;
        let expected = shape(&mut beside).await?;
        let mut holder = PgConnection::connect(&url).await?;
        let hold = format!("BEGIN; LOCK TABLE {table} IN ACCESS SHARE MODE");
        sqlx::raw_sql(AssertSqlSafe(hold))
            .execute(&mut holder)
            .await?;

        // Alone, and cut off.
        let first = open(&lived);
        let stuck = until_waiting(&mut looker, "relation", 1).await?;
        terminate(&mut looker, stuck[0]).await?;
        ensure!(first.await?.is_err(), "it opened");
        let found = shape(&mut looker).await?;
        let half: Vec<_> = found.symmetric_difference(&expected).collect();
        ensure!(half.is_empty(), "after {whole}, half of a step: {half:#?}");
        let now = rows_of(&mut looker).await?;
        ensure!(now.keys().eq(expected_tables(&mut beside).await?.iter()));
        for (table, rows) in &old {
            let left = now.get(table).map(Vec::len);
            ensure!(left == Some(rows.len()), "{table}: {left:?}");
        }

        // Three at once. One of them is at it, and cut off; another does it, and the third finds it done.
        let three = [open(&lived), open(&lived), open(&lived)];
        until_waiting(&mut looker, "advisory", 2).await?;
        let stuck = until_waiting(&mut looker, "relation", 1).await?;
        terminate(&mut looker, stuck[0]).await?;
        until_waiting(&mut looker, "advisory", 1).await?;
        until_waiting(&mut looker, "relation", 1).await?;
        sqlx::raw_sql("ROLLBACK").execute(&mut holder).await?;
        let mut opened = Vec::new();
        for one in three {
            opened.extend(one.await?.ok());
        }
        ensure!(opened.len() == 2, "{} came up", opened.len());
        ensure_kept(&lived, &old, &rows_of(&mut looker).await?)?;
        let found = shape(&mut looker).await?;
        let other: Vec<_> = found.symmetric_difference(&lived.shape).collect();
        ensure!(other.is_empty(), "another schema: {other:#?}");
        for registry in &opened {
            ensure!(registry.schema_version().await? == newest);
            ensure_serves(&lived, registry, version).await?;
        }
        // What one of them ends, the other refuses.
        let ended = opened[0]
            .issue_api_key(
                &Actor::person("tester"),
                &wish("late"),
                &lived.fixture.peppers,
            )
            .await?;
        opened[1]
            .revoke_api_key(&lived.fixture.actor, &ended.key.id, "")
            .await?;
        for registry in &opened {
            registry.close().await;
        }
        let again = lived.fixture.second().await?;
        ensure!(code(&again, &lived.fixture, &ended).await? == "revoked");
        again.close().await;
        check_chain(&mut lived.fixture.stranger().await?).await?;
        holder.close().await?;
    }
    looker.close().await?;
    beside.close().await?;
    other.close().await
}

async fn expected_tables(connection: &mut PgConnection) -> Result<BTreeSet<String>> {
    Ok(rows_of(connection).await?.into_keys().collect())
}

/// A table of millions of keys takes longer than any statement of a request may.
#[tokio::test]
async fn migrations_and_marking_a_restored_database_have_no_time_limit() -> Result<()> {
    let database = Database::create().await?;
    sqlx::any::install_default_drivers();
    let mut stranger = AnyConnection::connect(database.url()).await?;
    sqlx::raw_sql(
        "CREATE FUNCTION must_have_time() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('statement_timeout') <> '0' OR current_setting('lock_timeout') <> '0' THEN
                RAISE EXCEPTION 'this has a time limit';
            END IF;
         END $$;
         CREATE EVENT TRIGGER must_have_time ON ddl_command_start EXECUTE FUNCTION must_have_time();",
    )
    .execute(&mut stranger)
    .await?;
    let registry = LocalRegistry::open_postgres(database.url(), Clock::system()).await?;
    sqlx::raw_sql(
        "DROP EVENT TRIGGER must_have_time;
         CREATE FUNCTION must_have_time_too() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF current_setting('statement_timeout') <> '0' THEN
                RAISE EXCEPTION 'this has a time limit';
            END IF;
            RETURN NEW;
         END $$;
         CREATE TRIGGER must_have_time BEFORE UPDATE ON principals FOR EACH ROW EXECUTE FUNCTION must_have_time_too();",
    )
    .execute(&mut stranger)
    .await?;
    let actor = Actor::person("tester");
    registry.mark_put_back(&actor).await?;
    // And only there.
    sqlx::raw_sql(
        "ALTER TABLE principals DISABLE TRIGGER must_have_time;
         CREATE TRIGGER must_have_time BEFORE UPDATE ON heads FOR EACH ROW EXECUTE FUNCTION must_have_time_too();",
    )
    .execute(&mut stranger)
    .await?;
    assert!(registry.adopt_pepper(&actor, "pepper-1").await.is_err());
    registry.close().await;
    stranger.close().await?;
    database.close().await
}
