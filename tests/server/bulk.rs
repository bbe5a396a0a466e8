//! Operations over many keys at a server whose database takes no changes for a while.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::answered_later::{by_hand, until};
use super::kill::Victim;
use super::kill::keys::{get, request};
use crate::support::postgres::Database;

/// Ids that no key has: they are only looked for, so that one is in the middle when the first change fails.
const MISSING: usize = 1_500;
const KEYS: usize = 3;

/// No key can be changed; everything else can.
const AWAY: [&str; 2] = [
    "CREATE TRIGGER away BEFORE UPDATE ON api_keys BEGIN SELECT RAISE(ABORT, 'away'); END",
    "CREATE OR REPLACE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS \
     'BEGIN RAISE EXCEPTION ''away''; END'; \
     CREATE TRIGGER away BEFORE UPDATE ON api_keys FOR EACH ROW EXECUTE FUNCTION away()",
];
const BACK: [&str; 2] = ["DROP TRIGGER away", "DROP TRIGGER away ON api_keys"];

async fn tag(victim: &Victim, tag: &str, ids: &[String]) -> Result<String> {
    let body = json!({ "operation": "tag", "tag": tag, "ids": ids, "expect": ids.len() });
    let begun = victim.send(request(victim, "/api/v1/bulk", &body)).await?;
    ensure!(begun.status == 202, "{} {}", begun.status, begun.body);
    Ok(format!("/api/v1/bulk/{}", begun.text("id")?))
}

/// All that failed, page by page.
async fn failed(victim: &Victim, path: &str) -> Result<Vec<String>> {
    let (mut failed, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = format!("{path}/failures?cursor={cursor}");
        let page = get(victim, &page).await?.body;
        for one in page["items"].as_array().context("no items")? {
            failed.push(one["key_id"].as_str().context("no id")?.to_owned());
        }
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return Ok(failed),
        }
    }
}

async fn away_for_a_while(database: Option<&Database>) -> Result<()> {
    let victim = Victim::start(database.map(|database| database.url().to_owned())).await?;
    let (url, kind) = match database {
        Some(database) => (database.url().to_owned(), 1),
        None => {
            let file = victim.server.data().join("registry.db");
            (format!("sqlite://{}", file.display()), 0)
        }
    };
    let mut ids: Vec<String> = (0..MISSING).map(|number| format!("{number:020}")).collect();
    let missing = ids.clone();
    for _ in 0..KEYS {
        let wish = json!({ "name": "Tagged", "prefix": "sk_live", "scopes": ["keys:read"] });
        let made = victim.send(request(&victim, "/api/v1/keys", &wish)).await?;
        let id = made.body["key"]["id"].as_str().context("no key")?;
        ids.push(id.to_owned());
    }
    by_hand(&url, AWAY[kind]).await?;
    let path = tag(&victim, "survived", &ids).await?;
    // How far it came is told while it waits, and that somebody speaks for it.
    let view = until(&victim, &path, |view| view["done"] == MISSING).await?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let later = get(&victim, &path).await?.body;
    ensure!(later["state"] == "running", "{later}");
    ensure!(
        later["seen_at"].as_i64() > view["seen_at"].as_i64(),
        "{later}"
    );
    by_hand(&url, BACK[kind]).await?;
    let view = until(&victim, &path, |view| view["state"] != "running").await?;
    ensure!(view["state"] == "done", "{view}");
    ensure!(view["changed"] == KEYS, "{view}");
    ensure!(view.get("problem").is_none(), "{view}");
    ensure!(failed(&victim, &path).await? == missing);

    // Away for longer than one waits: one that is called off meanwhile ends at once, the other says why it ended.
    by_hand(&url, AWAY[kind]).await?;
    let began = Instant::now();
    let given_up = tag(&victim, "given-up", &ids).await?;
    let called_off = tag(&victim, "called-off", &ids).await?;
    for path in [&given_up, &called_off] {
        until(&victim, path, |view| view["done"] == MISSING).await?;
    }
    let cancel = request(&victim, &format!("{called_off}/cancel"), &Value::Null);
    ensure!(victim.send(cancel).await?.status == 200);
    let asked = Instant::now();
    let view = until(&victim, &called_off, |view| view["state"] != "running").await?;
    ensure!(view["state"] == "cancelled", "{view}");
    ensure!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
    let view = until(&victim, &given_up, |view| view["state"] != "running").await?;
    ensure!(view["state"] == "stopped", "{view}");
    ensure!(view["problem"]["code"] == "store_unavailable", "{view}");
    ensure!(
        (30..60).contains(&began.elapsed().as_secs()),
        "{:?}",
        began.elapsed()
    );
    ensure!(view["done"] == MISSING + 1, "{view}");
    let all = failed(&victim, &given_up).await?;
    ensure!(all == ids[..=MISSING], "{}", all.len());
    by_hand(&url, BACK[kind]).await
}

#[tokio::test]
async fn an_operation_over_many_keys_waits_for_a_database_that_is_away_on_sqlite() -> Result<()> {
    away_for_a_while(None).await
}

#[tokio::test]
async fn an_operation_over_many_keys_waits_for_a_database_that_is_away_on_postgresql() -> Result<()>
{
    let database = Database::create().await?;
    away_for_a_while(Some(&database)).await?;
    database.close().await
}
