//! The registry of this device where there is no network (AC-151): a network namespace in which nothing is up, not even
//! the loopback.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use keywright_protocol::api_keys::{OverlapClock, RotateApiKeyRequest};

use super::*;

/// Set for the child that has no network.
const INSIDE: &str = "KEYWRIGHT_TEST_WITHOUT_NETWORK";
const DONE: &str = "it works without a network";

async fn accepts(app: &App, text: &str) -> anyhow::Result<bool> {
    let request = VerifyApiKeyRequest {
        presented: text.to_owned(),
        required_scope: None,
        knowing: true,
    };
    Ok(app.verify_api_key(request).await?.accepted)
}

/// Not a test of its own: the child. Its app has an account at a server, as anybody's has who is on a journey.
#[tokio::test]
async fn inside() -> Outcome {
    if std::env::var_os(INSIDE).is_none() {
        return Ok(());
    }
    assert!(TcpStream::connect("127.0.0.1:9").await.is_err());
    let reached = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let to_itself = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(reached));
    assert!(!matches!(to_itself.await, Ok(Ok(_))), "there is a network");
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), "https://id.example.com").await?;
    let (id, text) = issued_here(&app).await?;
    assert!(accepts(&app, &text).await?);
    assert_eq!(app.list_api_keys(list()).await?.items.len(), 1);
    app.count_api_keys().await?;
    app.list_scopes().await?;
    let rotated = app.rotate_api_key(RotateApiKeyRequest {
        id: id.clone(),
        overlap_ms: 60_000,
        clock: OverlapClock::FromFirstUse,
        silent_ms: None,
        compromised: None,
        expires_in_days: None,
        idempotency_key: "r1".to_owned(),
    });
    let new = app.reveal_secret(rotated.await?.reveal_id)?.secret;
    assert!(accepts(&app, &new).await? && accepts(&app, &text).await?);
    let reason = String::new();
    app.revoke_api_key(RevokeApiKeyRequest { id, reason })
        .await?;
    assert!(!accepts(&app, &new).await? && !accepts(&app, &text).await?);
    app.close().await;
    println!("{DONE}");
    Ok(())
}

#[tokio::test]
async fn ac_151_the_registry_of_this_device_works_with_networking_off() -> Outcome {
    let own_name = module_path!().split_once("::").expect("a crate").1;
    let mut child = Command::new("unshare");
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        child.args(["--user", "--map-current-user"]);
    }
    child.arg("--net");
    let tried = Command::new("unshare")
        .args(child.get_args())
        .arg("true")
        .output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        // Not by `eprintln!`, which a test that passes keeps to itself. `cargo xtask test` counts what is skipped.
        let note = "skipped here: no network namespaces: AC-151 is shown by who is not asked\n";
        return Ok(std::io::stderr().write_all(note.as_bytes())?);
    }
    child.arg(std::env::current_exe()?);
    child.args(["--exact", "--nocapture"]);
    child.arg(format!("{own_name}::inside")).env(INSIDE, "1");
    let output = tokio::task::spawn_blocking(move || child.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains(DONE),
        "{said}{complaint}"
    );
    Ok(())
}
