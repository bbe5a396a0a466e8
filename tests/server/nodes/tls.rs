//! PostgreSQL that is reached by TLS alone, with a certificate that is checked.

use anyhow::{Result, ensure};
use serde_json::json;

use super::cluster::Cluster;
use super::parts::{Three, client};
use crate::server::harness::Options;
use crate::support::certificates::certificates;

/// Connections of others to the database by what protects them, and what they do.
const UNPROTECTED: &str = "SELECT COUNT(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND NOT ssl";
const PROTECTED: &str = "SELECT COUNT(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND ssl";
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ac_140_s0_nodes_reach_postgresql_by_tls_and_check_whom_it_leads_to() -> Result<()> {
    let cluster = Cluster::start().await?;
    let made = cluster.only_tls("localhost").await?;
    let by = |rest: &str| cluster.url().replace("127.0.0.1", "localhost") + rest;
    let authority = made.authority.display();
    let verified = by(&format!("?sslmode=verify-full&sslrootcert={authority}"));
    let three = Three::on(&verified, Options::default()).await?;
    let (id, secret) = three.issue(json!({})).await?;
    for node in 0..3 {
        ensure!(three.caller(node).code(&secret).await? == "valid", "{node}");
    }
    let (status, ended) = three
        .caller(0)
        .post(&format!("/api/v1/keys/{id}/revoke"), &json!({}))
        .await?;
    ensure!(
        status == 200 && ended["receipt"]["complete"] == true,
        "{ended}"
    );
    for node in 0..3 {
        ensure!(three.caller(node).code(&secret).await? != "valid", "{node}");
    }
    ensure!(cluster.number(UNPROTECTED).await? == 0);
    ensure!(
        cluster.number(PROTECTED).await? >= 9,
        "pools, writers, listeners of three"
    );
    // With what hears the hints among them.
    for node in 0..3 {
        let figures = client()?.get(three.caller(node).at("/metrics")).send();
        let figures = figures.await?.text().await?;
        ensure!(figures.contains("keywright_node_listening 1"), "{figures}");
    }
    // In the clear the database takes nobody; another authority vouches for another server.
    let folder = tempfile::tempdir()?;
    let other = certificates(folder.path(), "localhost")?;
    let other = other.authority.display();
    for (address, said) in [
        (by("?sslmode=disable"), "no encryption"),
        (
            by(&format!("?sslmode=verify-full&sslrootcert={other}")),
            "certificate",
        ),
        // The certificate is for the name.
        (
            format!(
                "{}?sslmode=verify-full&sslrootcert={authority}",
                cluster.url()
            ),
            "certificate",
        ),
    ] {
        let told = [("KEYWRIGHT_SERVER_DATABASE", address.as_str())];
        let (good, told, complaints) = three
            .first()
            .command_told(&["peppers", "list"], &told)
            .await?;
        ensure!(
            !good && complaints.contains(said),
            "{address}: {told} {complaints}"
        );
    }
    three.close().await
}
