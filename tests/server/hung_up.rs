//! A client that hangs up, or gives up waiting, before its request had its turn: nothing is done for it.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;
use sqlx::{AnyConnection, Connection as _};

use super::kill::Victim;
use super::kill::keys::{get, request};
use crate::support::postgres::Database;

async fn hung_up(database: Option<&Database>) -> Result<()> {
    let victim = Victim::start(database.map(|database| database.url().to_owned())).await?;
    let (url, hold) = match database {
        Some(database) => {
            let hold = "BEGIN; SELECT id FROM heads FOR UPDATE";
            (database.url().to_owned(), hold)
        }
        None => {
            let file = victim.server.data().join("registry.db");
            let hold = "BEGIN IMMEDIATE";
            (format!("sqlite://{}", file.display()), hold)
        }
    };
    sqlx::any::install_default_drivers();
    let mut stranger = AnyConnection::connect(&url).await?;
    sqlx::raw_sql(hold).execute(&mut stranger).await?;
    let wish = |name: &str| json!({ "name": name, "prefix": "sk_live", "scopes": ["keys:read"] });
    // The first is what the writer waits with, and the others wait for the writer.
    for name in ["Gone first", "Gone next", "Gone last"] {
        let asked = request(&victim, "/api/v1/keys", &wish(name));
        let answer = asked.timeout(Duration::from_millis(400)).send().await;
        ensure!(answer.is_err_and(|error| error.is_timeout()), "{name}");
    }
    let (asked, let_go) = tokio::join!(
        victim.send(request(&victim, "/api/v1/keys", &wish("Waits"))),
        async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            sqlx::raw_sql("ROLLBACK").execute(&mut stranger).await
        }
    );
    let_go?;
    let asked = asked?;
    ensure!(asked.status == 201, "{} {}", asked.status, asked.body);
    for (text, count) in [("Waits", 1), ("Gone", 0)] {
        let list = get(&victim, &format!("/api/v1/keys?text={text}")).await?;
        ensure!(list.body["total"] == count, "{text}: {}", list.body);
    }
    Ok(())
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_done_on_sqlite() -> Result<()> {
    hung_up(None).await
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_done_on_postgresql() -> Result<()> {
    let database = Database::create().await?;
    hung_up(Some(&database)).await?;
    database.close().await
}
