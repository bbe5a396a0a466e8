//! The wall clock of a running server is put forward and back: what was revoked stays revoked, what was used up
//! stays used up, and the trail stays whole. The clock of PostgreSQL stays right meanwhile: there a server knows
//! that its own is wrong, says so, and leaves the removing to others.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use sqlx::{AnyConnection, Connection as _};

use super::harness::{Options, PASSWORD};
use super::kill::access::{family, prepare, refresh_with, revoke};
use super::kill::keys::{self, issued, verdict};
use super::kill::person::Person;
use super::kill::{Answer, Victim};
use crate::support::postgres::Database;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Longer than any turn of what goes on beside requests.
const A_TURN: Duration = Duration::from_secs(70);
/// Schedules are looked at every half minute.
const A_LOOK: Duration = Duration::from_secs(35);

async fn start(database: Option<&Database>) -> Result<Victim> {
    let victim = Victim::with(Options {
        own_clock: true,
        database: database.map(|database| database.url().to_owned()),
        ..Options::default()
    })
    .await?;
    prepare(&victim).await?;
    Ok(victim)
}

/// Waits for something that happens beside requests.
async fn in_a_turn(what: &str, mut ask: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + A_TURN;
    while Instant::now() < end {
        if ask().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!("waited in vain for: {what}")
}

/// An answer that comes soon and is no failure of the server's.
async fn fine(victim: &Victim, request: reqwest::RequestBuilder) -> Result<Answer> {
    let began = Instant::now();
    let answer = victim.send(request).await?;
    ensure!(answer.status < 500, "{} {}", answer.status, answer.body);
    ensure!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    Ok(answer)
}

/// What an access token obtains.
async fn userinfo(victim: &Victim, access: &str) -> Result<u16> {
    let request = victim.client.get(victim.server.at("/oauth2/userinfo"));
    Ok(fine(victim, request.bearer_auth(access)).await?.status)
}

/// The trail, and all that it hangs on.
async fn is_whole(victim: &Victim) -> Result<()> {
    let verdict = keys::get(victim, "/api/v1/audit/verify").await?;
    ensure!(verdict.body["intact"] == true, "{}", verdict.body);
    let variables = victim.server.clock()?.variables();
    let variables: Option<Vec<(&str, &str)>> = variables
        .iter()
        .map(|(name, value)| Some((*name, value.to_str()?)))
        .collect();
    let told = variables.context("a path that is no text")?;
    let (success, said, complaint) = victim.server.command_told(&["doctor"], &told).await?;
    ensure!(success, "{said}{complaint}");
    Ok(())
}

/// All pages of a list: each thing of it, once.
async fn walk(victim: &Victim, path: &str, name: &str) -> Result<BTreeSet<String>> {
    let (mut found, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let page = keys::get(victim, &format!("{path}?limit=3{cursor}")).await?;
        for one in page.body["items"].as_array().context("no items")? {
            let id = one[name].to_string();
            ensure!(found.insert(id.clone()), "{id} comes twice in {path}");
        }
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(found),
        }
    }
}

async fn on_postgresql(test: impl AsyncFn(Option<&Database>) -> Result<()>) -> Result<()> {
    let database = Database::create().await?;
    test(Some(&database)).await?;
    database.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_084_ac_085_ac_138_s24_a_clock_put_back_makes_nothing_good_again() -> Result<()> {
    put_back(None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_084_ac_085_ac_138_s24_a_clock_put_back_makes_nothing_good_again_on_postgresql()
-> Result<()> {
    on_postgresql(put_back).await
}

async fn put_back(database: Option<&Database>) -> Result<()> {
    let victim = start(database).await?;
    let clock = victim.server.clock()?;
    // All that is ended, with the clock as it is.
    let ended = family(&victim).await?;
    ensure!(userinfo(&victim, ended.text("access_token")?).await? == 200);
    ensure!(revoke(&victim, ended.text("refresh_token")?).await?.status == 200);
    let (revoked, revoked_secret) = issued(&victim).await?;
    ensure!(verdict(&victim, &revoked_secret).await? == "valid");
    let path = format!("/api/v1/keys/{revoked}/revoke");
    ensure!(
        fine(&victim, keys::request(&victim, &path, &json!({})))
            .await?
            .status
            == 200
    );
    let person = Person::signed_in(&victim, PASSWORD).await?;
    let out = person.post(&victim, "/auth/signOut", &[]);
    ensure!(fine(&victim, out).await?.status == 200);
    let is_ended = async |when: &str| -> Result<()> {
        let access = userinfo(&victim, ended.text("access_token")?).await?;
        let refreshed = refresh_with(&victim, ended.text("refresh_token")?).await?;
        let key = verdict(&victim, &revoked_secret).await?;
        let session = person.is_signed_in(&victim).await?;
        ensure!(
            access == 401 && refreshed.status == 400 && key == "revoked" && !session,
            "{when}: {access} {} {key} {session}",
            refreshed.status
        );
        Ok(())
    };
    is_ended("before").await?;
    // Rotated long ago; rotated just now; never rotated.
    let old = family(&victim).await?;
    let first = old.text("refresh_token")?;
    let second = refresh_with(&victim, first).await?;
    ensure!(second.status == 200, "{}", second.body);
    let (kept, kept_secret) = issued(&victim).await?;
    let untouched = family(&victim).await?;

    clock.put(MINUTE)?;
    let just = family(&victim).await?;
    let sent = just.text("refresh_token")?;
    let successor = refresh_with(&victim, sent).await?;
    let again = refresh_with(&victim, sent).await?;
    ensure!(
        again.body["refresh_token"] == successor.body["refresh_token"],
        "it forked"
    );

    clock.put(-10 * MINUTE)?;
    is_ended("ten minutes back").await?;
    ensure!(verdict(&victim, &kept_secret).await? == "valid");
    // Long used up: no retry, whatever the clock says, and its family ends.
    let reused = refresh_with(&victim, first).await?;
    ensure!(
        reused.status == 400,
        "used up, and good again: {}",
        reused.body
    );
    let after = refresh_with(&victim, second.text("refresh_token")?).await?;
    ensure!(
        after.status == 400,
        "the family of a token that came again: {}",
        after.body
    );
    ensure!(userinfo(&victim, second.text("access_token")?).await? == 401);
    // Of the one that was rotated just now nobody can tell how long ago that is: never two successors.
    let late = refresh_with(&victim, sent).await?;
    ensure!(late.status == 400, "{}", late.body);
    ensure!(
        refresh_with(&victim, successor.text("refresh_token")?)
            .await?
            .status
            == 400
    );
    // A token from the future is not good yet; what it belongs to goes on.
    ensure!(userinfo(&victim, untouched.text("access_token")?).await? == 401);
    let next = refresh_with(&victim, untouched.text("refresh_token")?).await?;
    ensure!(next.status == 200, "{}", next.body);
    ensure!(userinfo(&victim, next.text("access_token")?).await? == 200);
    // Whoever works now works as ever, and what is ended now is ended.
    let other = Person::signed_in(&victim, PASSWORD).await?;
    ensure!(other.is_signed_in(&victim).await?);
    let path = format!("/api/v1/keys/{kept}/revoke");
    ensure!(
        fine(&victim, keys::request(&victim, &path, &json!({})))
            .await?
            .status
            == 200
    );
    ensure!(verdict(&victim, &kept_secret).await? == "revoked");
    let mut ids =
        BTreeSet::from([Value::from(revoked), Value::from(kept)].map(|id| id.to_string()));
    for ahead in [-20 * MINUTE, -10 * MINUTE, 5 * MINUTE, 0] {
        clock.put(ahead)?;
        ids.insert(Value::from(issued(&victim).await?.0).to_string());
        is_ended("there and back").await?;
        ensure!(verdict(&victim, &kept_secret).await? == "revoked");
    }
    ensure!(walk(&victim, "/api/v1/keys", "id").await?.is_superset(&ids));
    let trail = walk(&victim, "/api/v1/audit", "sequence").await?;
    ensure!(trail.len() > 20, "{}", trail.len());
    is_whole(&victim).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_204_what_was_removed_while_the_clock_was_ahead_is_not_good_again() -> Result<()> {
    let victim = start(None).await?;
    let clock = victim.server.clock()?;
    let ended = family(&victim).await?;
    let access = ended.text("access_token")?;
    ensure!(userinfo(&victim, access).await? == 200);
    ensure!(revoke(&victim, access).await?.status == 200);
    ensure!(userinfo(&victim, access).await? == 401);
    let database = victim.server.data().join("registry.db");
    sqlx::any::install_default_drivers();
    let address = format!("sqlite://{}", database.display());
    let mut connection = AnyConnection::connect(&address).await?;
    // Long after its end what is over is removed.
    clock.put(3 * HOUR)?;
    // Something that is over for longer than anything is kept: when it is gone, the removing took place.
    let marker =
        "INSERT INTO denials (kind, value, denied_at, expires_at) VALUES ('jti', 'marker', 1, 1)";
    sqlx::query(marker).execute(&mut connection).await?;
    let mut is_gone = async || -> Result<bool> {
        let sql = "SELECT COUNT(*) FROM denials WHERE value = 'marker'";
        let left: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        Ok(left == 0)
    };
    in_a_turn("what is over is removed", &mut is_gone).await?;
    clock.put(0)?;
    // At once, and after memory was read anew.
    for _ in 0..40 {
        let status = userinfo(&victim, access).await?;
        ensure!(status == 401, "revoked, and good again: {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    is_whole(&victim).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_204_on_postgresql_nothing_is_removed_by_a_clock_that_is_wrong() -> Result<()> {
    on_postgresql(wrong_beside_a_right_database).await
}

async fn wrong_beside_a_right_database(database: Option<&Database>) -> Result<()> {
    let victim = start(database).await?;
    let clock = victim.server.clock()?;
    let ended = family(&victim).await?;
    let access = ended.text("access_token")?;
    ensure!(userinfo(&victim, access).await? == 200);
    ensure!(revoke(&victim, access).await?.status == 200);
    sqlx::any::install_default_drivers();
    let address = database.context("no database")?.url();
    let mut connection = AnyConnection::connect(address).await?;
    is_ready_or_not(&victim, true).await?;
    clock.put(3 * HOUR)?;
    is_ready_or_not(&victim, false).await?;
    // A look for jobs that was under way does what it began.
    tokio::time::sleep(Duration::from_secs(3)).await;
    for sql in [
        "INSERT INTO denials (kind, value, denied_at, expires_at) VALUES ('jti', 'marker', 1, 1)",
        "UPDATE jobs SET next_at = 0, node = 'nobody'",
    ] {
        sqlx::query(sql).execute(&mut connection).await?;
    }
    let mut number = async |sql: &'static str| -> Result<i64> {
        Ok(sqlx::query_scalar(sql).fetch_one(&mut connection).await?)
    };
    let taken = "SELECT COUNT(*) FROM jobs WHERE node <> 'nobody'";
    let left = "SELECT COUNT(*) FROM denials WHERE value = 'marker'";
    // Longer than it takes to look for jobs. What decides by its own clock alone goes on.
    let end = Instant::now() + A_LOOK;
    while Instant::now() < end {
        ensure!(userinfo(&victim, access).await? == 401, "good again");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    ensure!(number(taken).await? == 0, "a job was done by a wrong clock");
    ensure!(number(left).await? == 1, "removed by a wrong clock");
    clock.put(0)?;
    is_ready_or_not(&victim, true).await?;
    in_a_turn("what is over is removed", async || {
        Ok(number(left).await? == 0)
    })
    .await?;
    for _ in 0..40 {
        let status = userinfo(&victim, access).await?;
        ensure!(status == 401, "revoked, and good again: {status}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    is_whole(&victim).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_035_ac_128_ac_143_a_clock_put_forward_ends_at_the_second_and_does_nothing_twice()
-> Result<()> {
    put_forward(None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_035_ac_128_ac_143_a_clock_put_forward_ends_at_the_second_and_does_nothing_twice_on_postgresql()
-> Result<()> {
    on_postgresql(put_forward).await
}

async fn put_forward(database: Option<&Database>) -> Result<()> {
    let victim = start(database).await?;
    // A file has no clock of its own to compare with.
    let is_told = database.is_some();
    let clock = victim.server.clock()?;
    let tokens = family(&victim).await?;
    let (access, refresh) = (tokens.text("access_token")?, tokens.text("refresh_token")?);
    let person = Person::signed_in(&victim, PASSWORD).await?;
    let (scheduled, _) = issued(&victim).await?;
    let schedule = json!({ "every_ms": 2 * DAY * 1000, "mode": "issue_pending" });
    let path = format!("/api/v1/keys/{scheduled}/schedule");
    let set = victim.client.put(victim.server.at(&path));
    let set = set.bearer_auth(&victim.server.root_key).json(&schedule);
    ensure!(fine(&victim, set).await?.status == 200);
    let wish = json!({
        "name": "a day and a bit", "prefix": "sk_live", "scopes": ["keys:read"],
        "lifetime_ms": (DAY + MINUTE) * 1000,
    });
    let short = fine(&victim, keys::request(&victim, "/api/v1/keys", &wish)).await?;
    ensure!(short.status == 201, "{}", short.body);
    let secret = short.text("secret")?;
    let expires_at = short.body["key"]["secrets"][0]["expires_at"]
        .as_i64()
        .context("no expiry")?;
    ensure!(userinfo(&victim, access).await? == 200);

    clock.put(HOUR)?;
    ensure!(
        userinfo(&victim, access).await? == 401,
        "good an hour after its end"
    );
    ensure!(
        person.is_signed_in(&victim).await?,
        "a session lives for days"
    );
    let left = (expires_at - clock.now_ms()?) / 1000;
    clock.put(HOUR + left - 5)?;
    // The key ends at its second, not before and not after.
    let (mut before, mut after) = (0, 0);
    while after < 3 {
        let asked = clock.now_ms()?;
        let code = verdict(&victim, secret).await?;
        let answered = clock.now_ms()?;
        if answered < expires_at {
            ensure!(
                code == "valid",
                "{code} {} ms before its end",
                expires_at - asked
            );
            before += 1;
        }
        if asked >= expires_at {
            ensure!(
                code == "expired",
                "{code} {} ms after its end",
                answered - expires_at
            );
            after += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ensure!(
        before > 0,
        "it was over before anybody asked: the test shows nothing"
    );
    is_ready_or_not(&victim, !is_told).await?;

    // The schedule has its turn once, however often the day comes.
    let rotations = async || -> Result<usize> {
        let path = format!("/api/v1/keys/{scheduled}/rotations");
        let list = keys::get(&victim, &path).await?;
        Ok(list.body["items"].as_array().context("no items")?.len())
    };
    ensure!(rotations().await? == 0, "not due");
    clock.put(2 * DAY + MINUTE)?;
    in_a_turn("the schedule", async || Ok(rotations().await? == 1)).await?;
    for ahead in [-DAY, 2 * DAY + 2 * MINUTE] {
        clock.put(ahead)?;
        tokio::time::sleep(A_LOOK).await;
        ensure!(rotations().await? == 1, "done twice at {ahead}");
    }

    clock.put(40 * DAY)?;
    ensure!(!person.is_signed_in(&victim).await?, "a session for ever");
    ensure!(
        refresh_with(&victim, refresh).await?.status == 400,
        "a grant for ever"
    );
    let again = Person::signed_in(&victim, PASSWORD).await?;
    ensure!(again.is_signed_in(&victim).await?);
    ensure!(family(&victim).await?.status == 200);
    clock.put(0)?;
    is_ready_or_not(&victim, true).await?;
    is_whole(&victim).await
}

/// Waits until the server says that it can work, or that it should not: clocks are compared each second.
async fn is_ready_or_not(victim: &Victim, wanted: bool) -> Result<()> {
    in_a_turn("readiness", async || {
        let request = victim.client.get(victim.server.at("/readyz"));
        Ok((victim.send(request).await?.status == 200) == wanted)
    })
    .await
}
