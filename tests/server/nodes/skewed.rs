//! Three processes whose wall clocks differ (libfaketime), asked over HTTP: what is ended at one is refused at each when
//! its receipt says so, tokens and sessions of one are good at the others, whoever is too far off says that it is not
//! ready, and jobs are left to the one that is right.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use super::parts::{Place, Three, client};
use super::{SECOND, at_work, text};
use crate::server::clock::WallClock;
use crate::server::harness::Options;
use crate::support::postgres::Database;
use crate::support::until;

const HOUR: i64 = 3600;
/// Beyond 5 s a node is not ready.
const A_LITTLE: i64 = 8;
const SECRET: &str = "a secret of this client only, long enough";

async fn are_ready(three: &Three, wanted: [bool; 3]) -> Result<()> {
    until(&format!("readiness {wanted:?}"), async || {
        let mut found = [false; 3];
        for (node, found) in found.iter_mut().enumerate() {
            *found = three.caller(node).is_ready().await;
        }
        (found == wanted).then_some(())
    })
    .await
}

/// Issued, rotated and revoked by a node: each of them says the same after each receipt.
async fn ends_everywhere(three: &Three, node: usize) -> Result<()> {
    let caller = three.caller(node);
    let (status, made) = caller.post("/api/v1/keys", &Three::wish(json!({}))).await?;
    ensure!(status == 201, "{status} {made}");
    let id = text(&made["key"]["id"])?;
    let path = format!("/api/v1/keys/{id}/rotations");
    let all_say = async |secret: &str, wanted: &str| -> Result<()> {
        for other in 0..3 {
            let code = three.caller(other).code(secret).await?;
            ensure!(code == wanted, "node {other} says {code} for {wanted}");
        }
        Ok(())
    };
    let complete = |answer: &Value| -> Result<()> {
        let nodes = answer["receipt"]["nodes"].as_array().context("no nodes")?;
        ensure!(nodes.len() == 3, "{answer}");
        ensure!(answer["receipt"]["complete"] == true, "{answer}");
        Ok(())
    };
    let old = text(&made["secret"])?;
    all_say(old, "valid").await?;
    let (status, rotated) = caller.post(&path, &json!({ "overlap_ms": 0 })).await?;
    ensure!(status == 201, "{status} {rotated}");
    complete(&rotated)?;
    let new = text(&rotated["secret"])?;
    all_say(old, "retired").await?;
    all_say(new, "valid").await?;
    let path = format!("/api/v1/keys/{id}/revoke");
    let (status, revoked) = caller.post(&path, &json!({})).await?;
    ensure!(status == 200, "{status} {revoked}");
    complete(&revoked)?;
    all_say(new, "revoked").await
}

/// A form, sent by the client to a node.
async fn send(three: &Three, node: usize, path: &str, form: String) -> Result<(u16, Value)> {
    let secret: String = url::form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
    let answer = client()?
        .post(three.caller(node).at(path))
        .basic_auth("service", Some(secret))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await?;
    let status = answer.status().as_u16();
    let said = answer.text().await?;
    Ok((status, serde_json::from_str(&said).unwrap_or(Value::Null)))
}

/// A token that a node issued is good at each, and ended by another it is good at none, three seconds later at the latest.
async fn token_of(three: &Three, node: usize) -> Result<()> {
    let form = "grant_type=client_credentials".to_owned();
    let (status, answer) = send(three, node, "/oauth2/token", form).await?;
    ensure!(status == 200, "{status} {answer}");
    let token = text(&answer["access_token"])?;
    let ask = async |node: usize| {
        let request = client()?.get(three.caller(node).at("/api/v1/keys"));
        let answer = request.bearer_auth(token).send().await?;
        anyhow::Ok(answer.status().as_u16())
    };
    for other in 0..3 {
        let status = ask(other).await?;
        ensure!(status == 200, "of node {node} at node {other}: {status}");
    }
    let form = format!("token={token}");
    let (status, answer) = send(three, (node + 1) % 3, "/oauth2/revoke", form).await?;
    ensure!(status == 200, "{status} {answer}");
    let ended = Instant::now();
    for other in 0..3 {
        loop {
            let asked = ended.elapsed();
            if ask(other).await? == 401 {
                break;
            }
            ensure!(asked < SECOND * 3, "node {other} accepts it still");
        }
    }
    Ok(())
}

/// A revoked key that goes on being used: it is told by whoever is first, and perhaps once more by the one that is right.
async fn is_told_of_rarely(three: &Three, sql: &mut PgConnection) -> Result<()> {
    let caller = three.caller(0);
    let (status, made) = caller.post("/api/v1/keys", &Three::wish(json!({}))).await?;
    ensure!(status == 201, "{status} {made}");
    let id = text(&made["key"]["id"])?;
    let path = format!("/api/v1/keys/{id}/revoke");
    let (status, revoked) = caller.post(&path, &json!({})).await?;
    ensure!(status == 200, "{status} {revoked}");
    let secret = text(&made["secret"])?;
    let began = Instant::now();
    while began.elapsed() < SECOND * 6 {
        for node in 0..3 {
            let code = three.caller(node).code(secret).await?;
            ensure!(code == "revoked", "node {node} says {code}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let told: Vec<i64> = sqlx::query_scalar(
        "SELECT COUNT(o.id) FROM alerts a LEFT JOIN outbox o ON o.event_id LIKE 'alr_' || a.id || '_%' \
         WHERE a.key_id = $1 GROUP BY a.id",
    )
    .bind(id.to_owned())
    .fetch_all(sql)
    .await?;
    let is_rare = !told.is_empty() && told.iter().all(|times| (1..=2).contains(times));
    ensure!(is_rare, "told so often: {told:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_ac_204_three_processes_with_different_clocks_end_what_is_ended_and_leave_jobs_to_the_right_one()
-> Result<()> {
    let database = Database::create().await?;
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    let clocks = [
        WallClock::new(folders[0].path())?,
        WallClock::new(folders[1].path())?,
    ];
    let places = clocks.each_ref().map(|clock| Place {
        url: database.url().to_owned(),
        variables: clock
            .variables()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    });
    let three = Three::told(database.url(), places, Options::default()).await?;
    let more = ["--grant", "client_credentials", "--scope", "keys:read"];
    three
        .first()
        .add_client("service", Some(SECRET), &more)
        .await?;
    let cookies = at_work::sign_in(&three).await?;
    // What is for it is counted where it waits: nobody is there.
    let hook =
        json!({ "url": "https://hooks.example.invalid/", "events": ["secret.retired_used"] });
    let (status, hook) = three.caller(0).post("/api/v1/webhooks", &hook).await?;
    ensure!(status == 201, "{status} {hook}");
    let mut sql = PgConnection::connect(database.url()).await?;
    are_ready(&three, [true; 3]).await?;
    for (second, third) in [(A_LITTLE, -A_LITTLE), (3 * HOUR, -3 * HOUR)] {
        clocks[0].put(second)?;
        clocks[1].put(third)?;
        are_ready(&three, [true, false, false]).await?;
        for node in 0..3 {
            let ended = ends_everywhere(&three, node).await;
            ended.with_context(|| format!("by node {node}, {second} s and {third} s off"))?;
        }
        if second == A_LITTLE {
            for node in 0..3 {
                let told = token_of(&three, node).await;
                told.with_context(|| format!("a token of node {node}"))?;
                let session = client()?.get(three.caller(node).at("/auth/session"));
                let session = session.header("cookie", &cookies).send().await?;
                ensure!(session.status() == 200, "{node}: {}", session.status());
            }
        }
        if second > A_LITTLE {
            is_told_of_rarely(&three, &mut sql).await?;
        }
        // Whatever falls due is for the one that is right.
        for _ in 0..2 {
            sqlx::query("UPDATE jobs SET next_at = 0, node = ''")
                .execute(&mut sql)
                .await?;
            let taken = "SELECT COUNT(*) FROM jobs WHERE node <> ''";
            let began = Instant::now();
            while sqlx::query_scalar::<_, i64>(taken)
                .fetch_one(&mut sql)
                .await?
                == 0
            {
                ensure!(began.elapsed() < SECOND * 10, "nobody takes a job");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // Long enough for each of them to look.
            tokio::time::sleep(Duration::from_millis(1200)).await;
            let asked = "SELECT DISTINCT COALESCE(n.name, j.node) FROM jobs j LEFT JOIN nodes n ON n.id = j.node \
                         WHERE j.node <> ''";
            let who: Vec<String> = sqlx::query_scalar(asked).fetch_all(&mut sql).await?;
            ensure!(who == ["one"], "{second} s and {third} s off: {who:?}");
        }
    }
    for clock in &clocks {
        clock.put(0)?;
    }
    are_ready(&three, [true; 3]).await?;
    for node in 0..3 {
        ends_everywhere(&three, node).await?;
    }
    sql.close().await?;
    three.close().await?;
    database.close().await
}
