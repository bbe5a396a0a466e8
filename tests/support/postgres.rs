//! Databases of the tests' own, in the PostgreSQL server that `cargo xtask` starts for them.

use std::env;

use anyhow::{Context as _, Result};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use url::Url;

/// The superuser's address of the server's maintenance database.
const SERVER: &str = "KEYWRIGHT_TEST_POSTGRES";

/// An empty database under a random name; it goes away with this value.
pub(crate) struct Database {
    server: String,
    name: String,
    url: String,
    dropped: bool,
}

impl Database {
    /// Makes a database. Without a server this fails: a test that did not look is no success.
    pub(crate) async fn create() -> Result<Self> {
        let server = env::var(SERVER).with_context(|| {
            format!(
                "{SERVER} is not set: run the tests by `cargo xtask test`, or start a server by \
                 `cargo xtask postgres` and set {SERVER} to the address it prints"
            )
        })?;
        let id = keywright_domain::base62::random_id(&mut rand::rng());
        let name = format!("kw_{id}");
        let mut url = Url::parse(&server).with_context(|| format!("{SERVER} is no address"))?;
        url.set_path(&name);
        run(&server, format!("CREATE DATABASE \"{name}\"")).await?;
        Ok(Self {
            server,
            name,
            url: url.into(),
            dropped: false,
        })
    }

    /// Its address, for whoever uses it; the account may do everything in it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Removes it, whoever is still connected.
    pub(crate) async fn close(mut self) -> Result<()> {
        self.dropped = true;
        run(&self.server, self.removal()).await
    }

    fn removal(&self) -> String {
        format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.dropped {
            return;
        }
        // The test's runtime is waiting for us: this needs one of its own.
        let (server, sql) = (self.server.clone(), self.removal());
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(run(&server, sql))
        });
        if !matches!(removed.join(), Ok(Ok(()))) {
            eprintln!("the database {} stays behind", self.name);
        }
    }
}

async fn run(server: &str, sql: String) -> Result<()> {
    let mut connection = PgConnection::connect(server).await?;
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await?;
    Ok(connection.close().await?)
}

async fn exists(database: &str, server: &str) -> Result<bool> {
    let mut connection = PgConnection::connect(server).await?;
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pg_database WHERE datname = $1")
        .bind(database)
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(count == 1)
}

#[tokio::test]
async fn a_database_is_empty_and_goes_away_with_its_users_still_there() -> Result<()> {
    let (left, closed) = (Database::create().await?, Database::create().await?);
    let names = [left.name.clone(), closed.name.clone()];
    let server = left.server.clone();
    let mut user = PgConnection::connect(left.url()).await?;
    let tables: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM pg_tables WHERE schemaname = $1")
        .bind("public")
        .fetch_one(&mut user)
        .await?;
    assert_eq!(tables, 0);
    assert!(exists(&names[0], &server).await? && exists(&names[1], &server).await?);
    drop(left);
    closed.close().await?;
    assert!(!exists(&names[0], &server).await? && !exists(&names[1], &server).await?);
    assert!(user.ping().await.is_err(), "its user was cut off");
    Ok(())
}
