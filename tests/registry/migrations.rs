//! Every schema that ever landed, as its version left it, opened by this one.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use keywright_domain::api_keys::{
    DAY_MS, KeyDigest, OverlapClock, Pepper, PlainKey, Prefix, RotationState, SecretState,
};
use keywright_domain::audit::Actor;
use keywright_registry::people::NewSignIn;
use keywright_registry::{
    CampaignFilter, Clock, HygieneFinding, HygieneRules, LocalRegistry, NewCampaign, Peppers,
    QuestionState, RotationStep, Unanswered, VerifyRequest,
};
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, Connection};

use super::model::{check_chain, folder};
use super::on_sqlite::{grants, people};
use super::{Fixture, Kind, START, pepper, rand_text};
use crate::support::postgres::Database;

const NOW: i64 = START + 10 * DAY_MS;

fn clock(now: i64) -> Clock {
    Clock::from_fn(move || now)
}

fn peppers() -> Peppers {
    Peppers::new(pepper("pepper-1", 7))
}

/// The migrations up to a version, from the same files that the registry has in it.
async fn migrator(version: i64) -> Result<Migrator> {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/registry/migrations");
    let mut migrator = Migrator::new(files).await?;
    migrator
        .migrations
        .to_mut()
        .retain(|one| one.version <= version);
    let newest = migrator.iter().map(|one| one.version).max();
    assert_eq!(newest, Some(version));
    Ok(migrator)
}

/// A file as an older version wrote it: its SQL, word for word.
struct Old {
    connection: AnyConnection,
    sequence: i64,
}

#[derive(Clone)]
struct OldSecret {
    text: String,
    stored: &'static str,
    created: i64,
    expires: Option<i64>,
    retires: Option<i64>,
    first_used: Option<i64>,
}

fn secret(stored: &'static str, created: i64, first_used: Option<i64>) -> Result<OldSecret> {
    let plain = PlainKey::generate(&Prefix::new("sk_live")?, &mut rand::rng());
    Ok(OldSecret {
        text: plain.text().expose().to_owned(),
        stored,
        created,
        expires: Some(created + 90 * DAY_MS),
        retires: None,
        first_used,
    })
}

impl Old {
    async fn make(file: &Path, version: i64) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let mut connection =
            AnyConnection::connect(&format!("sqlite://{}?mode=rwc", file.display())).await?;
        sqlx::raw_sql("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON")
            .execute(&mut connection)
            .await?;
        migrator(version)
            .await?
            .run_direct(None, &mut connection, false)
            .await?;
        let mut old = Self {
            connection,
            sequence: 0,
        };
        sqlx::query("INSERT INTO peppers (id, created_at) VALUES ('pepper-1', $1)")
            .bind(START)
            .execute(&mut old.connection)
            .await?;
        sqlx::query("INSERT INTO scopes (name, description, low_risk) VALUES ('keys:read', 'See API keys', 0)")
            .execute(&mut old.connection)
            .await?;
        old.event("registry.created", "registry", "registry")
            .await?;
        old.event("registry.pepper_adopted", "registry", "registry")
            .await?;
        Ok(old)
    }

    async fn event(&mut self, action: &str, kind: &str, id: &str) -> Result<()> {
        self.sequence += 1;
        sqlx::query(
            "INSERT INTO audit_events (sequence, at, action, actor, target_kind, target_id, target_name, \
             summary, details, search_text) VALUES ($1, $2, $3, 'someone', $4, $5, 'a name', 'Summary “ü”', \
             '[[\"kid\",\"x\"]]', '')",
        )
        .bind(self.sequence)
        .bind(START + self.sequence)
        .bind(action.to_owned())
        .bind(kind.to_owned())
        .bind(id.to_owned())
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    /// A key with its secrets, each after the first with a rotation named by `id` and its position.
    async fn key(&mut self, id: &str, revoked: bool, secrets: &[OldSecret]) -> Result<()> {
        let newest = secrets.last().context("a secret")?;
        let kid = PlainKey::parse(&newest.text)?.kid().to_string();
        sqlx::query(
            "INSERT INTO api_keys (id, name, prefix, scopes, epoch, created_at, revoked_at, name_order, search_text, \
             kid, last_four, expires_order, old_works_until, last_used_order) \
             VALUES ($1, 'Name Ä', 'sk_live', 'keys:read', $2, $3, $4, 'name ä', 'name', $5, 'abcd', $6, 0, 0)",
        )
        .bind(id.to_owned())
        .bind(i64::try_from(secrets.len())?)
        .bind(START)
        .bind(revoked.then_some(START + 5))
        .bind(kid)
        .bind(newest.expires.unwrap_or(i64::MAX))
        .execute(&mut self.connection)
        .await?;
        self.event("api_key.issued", "api_key", id).await?;
        for (position, one) in secrets.iter().enumerate() {
            let plain = PlainKey::parse(&one.text)?;
            let mac = Pepper::from_bytes([7; 32]).mac(&KeyDigest::of(&plain));
            sqlx::query(
                "INSERT INTO secrets (kid, key_id, position, mac, algorithm, pepper_id, last_four, stored, created_at, \
                 expires_at, retires_at, first_used_at, last_used_at, use_count) \
                 VALUES ($1, $2, $3, $4, 'hmac-sha256-of-sha256', 'pepper-1', $5, $6, $7, $8, $9, $10, $10, $11)",
            )
            .bind(plain.kid().to_string())
            .bind(id.to_owned())
            .bind(i64::try_from(position)?)
            .bind(mac.as_bytes().to_vec())
            .bind(plain.last_four().to_owned())
            .bind(one.stored)
            .bind(one.created)
            .bind(one.expires)
            .bind(one.retires)
            .bind(one.first_used)
            .bind(i64::from(one.first_used.is_some()))
            .execute(&mut self.connection)
            .await?;
            if position > 0 {
                sqlx::query(
                    "INSERT INTO rotations (idempotency_key, key_id, kid, created_at) VALUES ($1, $2, $3, $4)",
                )
                .bind(format!("{id}-{position}"))
                .bind(id.to_owned())
                .bind(plain.kid().to_string())
                .bind(one.created)
                .execute(&mut self.connection)
                .await?;
                self.event("api_key.rotated", "api_key", id).await?;
            }
        }
        Ok(())
    }
}

async fn code(registry: &LocalRegistry, text: &str) -> Result<&'static str> {
    let request = VerifyRequest {
        presented: text,
        ..VerifyRequest::default()
    };
    Ok(registry.verify_api_key(&request, &peppers()).await?.code())
}

/// What became of the rotations of a key, oldest first.
async fn rotations(
    registry: &LocalRegistry,
    id: &str,
) -> Result<Vec<(RotationState, Option<String>, bool)>> {
    let mut list = registry.list_rotations(id).await?;
    list.reverse();
    let told = list.into_iter().map(|rotation| {
        assert_eq!(rotation.clock, OverlapClock::FromIssue);
        let old = rotation.old.map(|kid| kid.to_string());
        (rotation.state, old, rotation.ended_at.is_some())
    });
    Ok(told.collect())
}

fn kid(one: &OldSecret) -> Result<Option<String>> {
    Ok(Some(PlainKey::parse(&one.text)?.kid().to_string()))
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|_| rand_text()).collect()
}

/// Opens what version `version` left behind, in every state that it knew.
async fn an_old_file_goes_on(version: i64) -> Result<()> {
    let folder = folder()?;
    let file: PathBuf = folder.path().join("registry.db");
    let mut old = Old::make(&file, version).await?;
    let ids = ids(6);
    let day = |days: i64| START + days * DAY_MS;

    let plain = [secret("active", START, Some(START + 1))?];
    old.key(&ids[0], false, &plain).await?;

    // Three generations, the second one in use: it is what the third replaces.
    let mut chain = [
        secret("retiring", START, Some(START + 1))?,
        secret("retiring", day(8), Some(day(8)))?,
        secret("pending", day(9), None)?,
    ];
    chain[0].retires = Some(day(9));
    chain[1].retires = Some(day(12));
    old.key(&ids[1], false, &chain).await?;

    // An overlap whose new secret is in use.
    let mut overlap = [
        secret("retiring", START, Some(START + 1))?,
        secret("active", day(9), Some(day(9) + 5))?,
    ];
    overlap[0].retires = Some(day(15));
    old.key(&ids[2], false, &overlap).await?;

    // A pending one that a newer rotation cancelled.
    let mut twice = [
        secret("retiring", START, Some(START + 1))?,
        secret("aborted", day(8), None)?,
        secret("pending", day(9), None)?,
    ];
    twice[0].retires = Some(day(14));
    old.key(&ids[3], false, &twice).await?;

    // Revoked in the middle of an overlap.
    let mut revoked = [
        secret("revoked", START, Some(START + 1))?,
        secret("revoked", day(9), None)?,
    ];
    revoked[0].retires = Some(day(20));
    old.key(&ids[4], true, &revoked).await?;

    let mut expired = [secret("active", START, None)?];
    expired[0].expires = Some(day(5));
    old.key(&ids[5], false, &expired).await?;

    if version >= 2 {
        sqlx::query(
            "INSERT INTO accounts (id, provider_id, issuer, subject, client_id, display_name, email_verified, scopes, \
             missing_scopes, in_keychain, identity_verified, signed_in_at) \
             VALUES ('a', 'p', 'https://id.example', 's', 'c', 'Ann', 0, 'openid', '', 0, 1, 5)",
        )
        .execute(&mut old.connection)
        .await?;
    }
    let events = old.sequence;
    old.connection.close().await?;
    let before = std::fs::read(&file)?;

    let registry = LocalRegistry::open(&file, clock(NOW)).await?;
    assert_eq!(
        registry.schema_version().await?,
        LocalRegistry::newest_schema()
    );
    let backup = file.with_file_name(format!("registry.db.before-schema-{}.backup", version + 1));
    let mut kept =
        AnyConnection::connect(&format!("sqlite://{}?mode=ro", backup.display())).await?;
    let (newest, keys): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT MAX(version) FROM _sqlx_migrations), (SELECT COUNT(*) FROM api_keys)",
    )
    .fetch_one(&mut kept)
    .await?;
    assert_eq!(
        (newest, keys),
        (version, 6),
        "the backup is as it was before"
    );
    kept.close().await?;
    assert!(!before.is_empty());
    assert_eq!(
        registry.list_accounts().await?.len(),
        usize::from(version >= 2)
    );

    let url = format!("sqlite://{}", file.display());
    let mut stranger = AnyConnection::connect(&url).await?;
    check_chain(&mut stranger).await?;
    let chained: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM audit_events")
        .fetch_one(&mut stranger)
        .await?;
    assert_eq!(chained, events, "none was added, all were chained");

    use RotationState::{Cancelled, Complete, Overlapping, Pending};
    assert_eq!(
        rotations(&registry, &ids[1]).await?,
        [
            (Complete, kid(&chain[0])?, true),
            (Pending, kid(&chain[1])?, false)
        ]
    );
    assert_eq!(
        rotations(&registry, &ids[2]).await?,
        [(Overlapping, kid(&overlap[0])?, false)]
    );
    assert_eq!(
        rotations(&registry, &ids[3]).await?,
        [
            (Cancelled, kid(&twice[0])?, true),
            (Pending, kid(&twice[0])?, false)
        ]
    );
    assert_eq!(
        rotations(&registry, &ids[4]).await?,
        [(Cancelled, kid(&revoked[0])?, true)]
    );

    for (one, expected) in [
        (&plain[0], "valid"),
        (&chain[0], "retired"),
        (&chain[1], "valid"),
        (&overlap[0], "valid"),
        (&overlap[1], "valid"),
        (&twice[0], "valid"),
        (&twice[1], "retired"),
        (&revoked[0], "revoked"),
        (&revoked[1], "revoked"),
        (&expired[0], "expired"),
        // Last: this is the first use of a pending one.
        (&chain[2], "valid"),
        (&twice[2], "valid"),
    ] {
        assert_eq!(
            code(&registry, &one.text).await?,
            expected,
            "{}",
            one.stored
        );
    }
    assert_eq!(
        rotations(&registry, &ids[1]).await?[1].0,
        Overlapping,
        "seen in use"
    );

    let actor = Actor::person("tester");
    for (id, back, taken) in [
        (&ids[2], &overlap[0], &overlap[1]),
        (&ids[1], &chain[1], &chain[2]),
    ] {
        registry
            .step_rotation(&actor, id, RotationStep::RollBack)
            .await?;
        assert_eq!(code(&registry, &back.text).await?, "valid");
        assert_eq!(code(&registry, &taken.text).await?, "retired");
        let (key, _) = registry.find_api_key(id).await?;
        let kid = kid(back)?;
        let one = key
            .secrets
            .iter()
            .find(|one| Some(one.kid.to_string()) == kid);
        let one = one.context("it is there")?;
        assert_eq!((one.stored, one.retires_at), (SecretState::Active, None));
    }
    assert_eq!(
        registry.settle_rotations().await?,
        0,
        "nothing is left to be settled"
    );
    registry.close().await;

    // Once more: the same rows, no other backup, nothing written.
    let count = std::fs::read_dir(folder.path())?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".backup"))
        .count();
    let told = dump(&mut stranger).await?;
    let again = LocalRegistry::open(&file, clock(NOW)).await?;
    assert_eq!(code(&again, &overlap[0].text).await?, "valid");
    again.close().await;
    assert_eq!(dump(&mut stranger).await?.len(), told.len());
    assert_eq!((count, std::fs::read(&backup)?.is_empty()), (1, false));
    check_chain(&mut stranger).await?;
    stranger.close().await?;
    Ok(())
}

/// Everything that opening might have changed.
async fn dump(connection: &mut AnyConnection) -> Result<HashSet<(String, String)>> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT kid, stored FROM secrets UNION ALL SELECT idempotency_key, state FROM rotations \
         UNION ALL SELECT CAST(sequence AS TEXT), summary FROM audit_events",
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().collect())
}

#[tokio::test]
async fn ac_154_schema_1_is_migrated_after_a_backup() -> Result<()> {
    an_old_file_goes_on(1).await
}

#[tokio::test]
async fn ac_154_schema_2_is_migrated_after_a_backup() -> Result<()> {
    an_old_file_goes_on(2).await
}

/// A new schema comes here, and says in the test of schema 4 what becomes of the rows that are there.
#[test]
fn every_schema_that_landed_has_its_test() {
    // 3 landed with 4. Of 1, 2 and 4 each has a test of its own; of 5 to 27 a file of each is opened.
    assert_eq!(LocalRegistry::newest_schema(), 28);
}

/// The names in the first column.
async fn names(connection: &mut AnyConnection, sql: &str) -> Result<HashSet<String>> {
    let rows: Vec<(String,)> = sqlx::query_as(sqlx::AssertSqlSafe(sql.to_owned()))
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|(name,)| name).collect())
}

/// 5 and later add tables, columns and indexes, and 8 has other indexes: a file without what came after a version
/// is as that one left it.
async fn back_to(version: i64, file: &Path, plain: &Path) -> Result<()> {
    let mut then =
        AnyConnection::connect(&format!("sqlite://{}?mode=rwc", plain.display())).await?;
    migrator(version)
        .await?
        .run_direct(None, &mut then, false)
        .await?;
    let mut now = AnyConnection::connect(&format!("sqlite://{}", file.display())).await?;
    sqlx::raw_sql("PRAGMA foreign_keys = OFF")
        .execute(&mut now)
        .await?;
    // What search keeps in SQLite is made when a file is opened.
    let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' \
                  AND name NOT LIKE 'api_key_search%' AND name <> 'api_key_totals'";
    let (mut added, old) = (
        names(&mut now, tables).await?,
        names(&mut then, tables).await?,
    );
    added.retain(|table| !old.contains(table));
    assert_eq!(added.contains("nodes"), version < 5, "{added:?}");
    // By their text: some were made anew under the same name.
    let indexes = "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL";
    let (here, before) = (
        names(&mut now, indexes).await?,
        names(&mut then, indexes).await?,
    );
    for index in here.difference(&before) {
        let mut words = index.split_ascii_whitespace();
        words.find(|word| *word == "INDEX");
        let name = words.next().context("an index without a name")?;
        let sql = format!("DROP INDEX {name}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut now)
            .await?;
    }
    let dropped = before.difference(&here).count();
    assert!(version >= 8 || dropped > 2, "8 dropped some");
    for index in before.difference(&here) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(index.clone()))
            .execute(&mut now)
            .await?;
    }
    for table in &added {
        let sql = format!("DROP TABLE {table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut now)
            .await?;
    }
    for table in old {
        let sql = format!("SELECT name FROM pragma_table_info('{table}')");
        let before = names(&mut then, &sql).await?;
        for column in names(&mut now, &sql).await?.difference(&before) {
            let sql = format!("ALTER TABLE {table} DROP COLUMN {column}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
                .execute(&mut now)
                .await?;
        }
    }
    sqlx::query("DELETE FROM _sqlx_migrations WHERE version > $1")
        .bind(version)
        .execute(&mut now)
        .await?;
    now.close().await?;
    Ok(then.close().await?)
}

#[tokio::test]
async fn ac_154_schema_4_is_migrated_after_a_backup() -> Result<()> {
    let (fixture, ada) = grants::ready().await?;
    let issued = fixture.issue("old").await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let allowed = grants::scopes("openid");
    registry
        .give_consent(actor, &ada.id, "app", None, &allowed)
        .await?;
    people::session_by(&fixture, &ada, "own", "pwd").await?;
    people::session_by(&fixture, &ada, "theirs", "fed").await?;
    let sign_in = |device: Option<&str>| NewSignIn {
        user_id: Some(ada.id.clone()),
        identifier: "ada@example.com".to_owned(),
        method: "password".to_owned(),
        failure: None,
        network: "192.0.2.1".to_owned(),
        user_agent: "Firefox".to_owned(),
        session_id: None,
        device: device.map(people::token),
    };
    fixture.registry.record_sign_in(&sign_in(None)).await?;
    let open = fixture.issue("open").await?.key;
    fixture.rotate(&open.id, DAY_MS).await?;
    let web = grants::confidential();
    let secret = people::token("secret");
    registry
        .add_client(actor, "web", &web, Some(&secret))
        .await?;
    let mut bound = Vec::new();
    for refresh in ["r0", "r1"] {
        bound.push(
            grants::grant_of(&fixture, &ada, refresh, refresh, None)
                .await?
                .id,
        );
    }
    fixture.registry.close().await;
    let mut stranger = fixture.stranger().await?;
    sqlx::query(
        "UPDATE grants SET dpop_jkt = 'k', client_id = CASE id WHEN $1 THEN 'web' ELSE 'app' END",
    )
    .bind(bound[1].clone())
    .execute(&mut stranger)
    .await?;
    stranger.close().await?;
    let file = fixture.file();
    back_to(4, &file, &file.with_file_name("four.db")).await?;
    let opened = LocalRegistry::open(&file, fixture.clock()).await?;
    assert_eq!(
        opened.schema_version().await?,
        LocalRegistry::newest_schema()
    );
    assert!(
        file.with_file_name("registry.db.before-schema-5.backup")
            .exists()
    );
    assert_eq!(code(&opened, issued.plain.text().expose()).await?, "valid");
    assert!(opened.claim_job("tidy", 1000).await?);
    // 14: what was allowed before resources were remembered counts for the own API.
    for (resource, allowed) in [(None, true), (Some("https://api.example.com"), false)] {
        let found = opened
            .find_consented_scopes(&ada.id, "app", resource)
            .await?;
        assert_eq!(found.is_some(), allowed, "{resource:?}");
    }
    // 15: what was proven here is proven; of what a provider said nothing is known.
    for (cookie, is_proven) in [("own", true), ("theirs", false)] {
        let found = opened.find_session(&people::token(cookie)).await?;
        let (session, _) = found.context("no session")?;
        let proven_at = if is_proven {
            session.authenticated_at
        } else {
            0
        };
        assert_eq!(session.proven_at, proven_at, "{cookie}");
    }
    assert!(opened.use_once("dpop", "k", "p", fixture.now() + 1).await?);
    // 16: a rotation from before it took no scopes, and gives none back; campaigns begin with nothing.
    let (key, rotation) = opened
        .step_rotation(&fixture.actor, &open.id, RotationStep::Cancel)
        .await?;
    assert_eq!(
        (rotation.state, key.scopes),
        (RotationState::Cancelled, open.scopes)
    );
    fixture.set_clock(fixture.now() + 2 * DAY_MS);
    let new = NewCampaign {
        name: "Autumn cleaning".into(),
        filter: CampaignFilter {
            findings: vec![HygieneFinding::NeverUsed],
            rules: HygieneRules {
                idle_days: 1,
                ..HygieneRules::default()
            },
            environment: None,
        },
        due_at: fixture.now() + 10 * DAY_MS,
        unanswered: Unanswered::Leave,
    };
    let candidates = opened.campaign_candidates(&new.filter).await?;
    let campaign = opened
        .begin_campaign(&fixture.actor, &new, candidates)
        .await?;
    let (_, progress) = opened.find_campaign(&campaign.id).await?;
    assert_eq!(progress.asked, 1);
    let asked = opened.find_question(&campaign.id, &open.id).await?;
    assert_eq!(asked.state, QuestionState::Open);
    // 22: refresh tokens of confidential clients are not bound to a key, those of public ones are.
    for (id, key) in bound.iter().zip([Some("k"), None]) {
        assert_eq!(opened.find_grant(id).await?.dpop_jkt.as_deref(), key);
    }
    // 18: the notice board begins with nothing, and what happens from here on is on it.
    let reader = keywright_registry::BoardReader::of_this_device();
    assert_eq!(opened.newest_notice().await?, 0);
    fixture.set_clock(START + 80 * DAY_MS);
    opened.post_notices().await?;
    assert!(opened.count_unread_notices(&reader).await? > 0);
    // 23: a schedule says why its rotation was refused; so far none was.
    assert!(
        opened
            .list_schedules(None, None, 10)
            .await?
            .iter()
            .all(|one| one.retry_at.is_none() && one.last_error.is_none())
    );
    // 27: owners that there were have no address of their own.
    let owners = opened.list_principals(None, "", 10).await?;
    assert!(!owners.is_empty() && owners.iter().all(|one| one.email.is_none()));
    // 25: operations that there were are none that is answered later.
    let operations = opened.list_bulk(None, None, 10).await?.items;
    assert!(operations.iter().all(|one| !one.later));
    // 28: of what failed before it, there is what stands with the operation.
    for one in &operations {
        let failures = opened.bulk_failures(&one.id, None, 10).await?;
        assert!(failures.items.is_empty() && one.problem.is_none());
    }
    assert!(
        opened
            .list_later(|_| true, None, 10)
            .await?
            .items
            .is_empty()
    );
    // 21: of a sign-in before it nobody knows by which browser, so that one is new once more.
    let before = opened.list_sign_ins(Some(&ada.id), None, 9).await?;
    assert_eq!((before.items.len(), before.items[0].device), (1, None));
    for is_new in [true, false] {
        let standing = opened.record_sign_in(&sign_in(Some("laptop"))).await?;
        assert_eq!(standing.new_device, is_new);
    }
    opened.close().await;
    Ok(())
}

/// A file of a version in between comes to the newest as well, with what is in it.
#[tokio::test]
async fn ac_154_every_schema_after_4_is_migrated_after_a_backup() -> Result<()> {
    let newest = LocalRegistry::newest_schema();
    let all = migrator(newest).await?;
    let between = all.iter().map(|one| one.version);
    let between: Vec<i64> = between.filter(|one| (5..newest).contains(one)).collect();
    assert!(between.len() > 10, "{between:?}");
    for version in between {
        let fixture = Fixture::on(Kind::Sqlite).await?;
        let (registry, actor) = (&fixture.registry, &fixture.actor);
        let issued = fixture.issue("old").await?;
        let ended = fixture.issue("ended").await?;
        registry
            .revoke_api_key(actor, &ended.key.id, "leak")
            .await?;
        let until = fixture.now() + DAY_MS;
        registry.deny_access_token(actor, "jti", until).await?;
        fixture.registry.close().await;
        let file = fixture.file();
        back_to(version, &file, &file.with_file_name("then.db")).await?;

        let opened = LocalRegistry::open(&file, fixture.clock()).await?;
        assert_eq!(opened.schema_version().await?, newest, "{version}");
        let backup = format!("registry.db.before-schema-{}.backup", version + 1);
        assert!(file.with_file_name(backup).exists(), "{version}");
        for (key, expected) in [(&issued, "valid"), (&ended, "revoked")] {
            let found = code(&opened, key.plain.text().expose()).await?;
            assert_eq!(found, expected, "{version}");
        }
        // 20: what was denied before has no number, and is denied still.
        assert!(opened.is_access_denied("jti", "", "").await?, "{version}");
        let end = opened.end_of_denials().await?;
        opened.deny_access_token(actor, "next", until).await?;
        let new = opened.new_denials(&end, 10).await?.unwrap_or_default();
        let new: Vec<&str> = new.iter().map(|one| one.value.as_str()).collect();
        assert_eq!(new, ["next"], "{version}");
        opened.close().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ac_153_registries_opened_at_the_same_moment_on_nothing_all_come_up() -> Result<()> {
    for round in 0..6 {
        let folder = folder()?;
        let file = folder.path().join("registry.db");
        if round % 2 == 1 {
            // Not on nothing, but on what an old version left.
            let mut old = Old::make(&file, 1).await?;
            let key = [secret("active", START, None)?];
            old.key(&rand_text(), false, &key).await?;
            old.connection.close().await?;
        }
        let database = Database::create().await?;
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..6 {
            let (file, address) = (file.clone(), database.url().to_owned());
            tasks.spawn(async move {
                let opened = if task % 2 == 0 {
                    LocalRegistry::open(&file, clock(NOW)).await
                } else {
                    LocalRegistry::open_postgres(&address, clock(NOW)).await
                };
                let registry = opened.with_context(|| format!("task {task} of round {round}"))?;
                let scopes = registry.list_scopes().await?.len();
                registry.close().await;
                anyhow::Ok(if task % 2 == 0 { scopes } else { 8.min(scopes) })
            });
        }
        while let Some(opened) = tasks.join_next().await {
            let scopes = opened??;
            assert!(scopes == 8 || round % 2 == 1, "{scopes} scopes");
        }
        let mut stranger = AnyConnection::connect(database.url()).await?;
        check_chain(&mut stranger).await?;
        let created: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM audit_events WHERE action = 'registry.created'",
        )
        .fetch_one(&mut stranger)
        .await?;
        assert_eq!(created, 1);
        stranger.close().await?;
        database.close().await?;
    }
    Ok(())
}

/// PostgreSQL begins at version 3: what that version wrote stays as it is.
#[tokio::test]
async fn ac_154_opening_postgres_again_changes_nothing() -> Result<()> {
    let fixture = Fixture::on(Kind::Postgres).await?;
    let issued = fixture.issue("kept").await?;
    fixture.rotate(&issued.key.id, DAY_MS).await?;
    let mut stranger = fixture.stranger().await?;
    let told = dump(&mut stranger).await?;
    for _ in 0..3 {
        let again = fixture.second().await?;
        assert_eq!(
            again.schema_version().await?,
            LocalRegistry::newest_schema()
        );
        again.close().await;
    }
    assert_eq!(dump(&mut stranger).await?, told);
    check_chain(&mut stranger).await
}
