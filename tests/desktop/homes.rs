//! Folders set instances apart: two folders do not meet, one folder has one instance.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::harness::process::{Part, marked, pause};
use super::harness::{AppWindow, Browser, Desktop, Keyring, keyring, session};
use super::keys::{issue, put_away, reveal, verify};

#[tokio::test]
async fn two_homes_do_not_meet() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let one = AppWindow::open(&desktop, &desktop.path("kw")).await?;
    let two = AppWindow::open(&desktop, &desktop.path("other")).await?;
    ensure!(one.process()? != two.process()?);
    issue(&one, "Of one").await?;
    let of_one = reveal(&one).await?;
    put_away(&one).await?;
    two.see("keys-empty").await?;
    issue(&two, "Of two").await?;
    let of_two = reveal(&two).await?;
    put_away(&two).await?;

    ensure!(verify(&one, &of_one).await? == "valid" && verify(&two, &of_two).await? == "valid");
    ensure!(
        verify(&one, &of_two).await? == "not_found",
        "one knows a key of two"
    );
    ensure!(
        verify(&two, &of_one).await? == "not_found",
        "two knows a key of one"
    );
    ensure!(one.service()? != two.service()?);
    for window in [&one, &two] {
        let users = keyring::users(&desktop, &window.service()?)?;
        ensure!(
            users.len() == 1 && users[0].starts_with("pepper:"),
            "{users:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_second_start_brings_the_first_window_forward() -> Result<()> {
    let desktop = Desktop::start(Keyring::Unlocked).await?;
    let app = desktop.open().await?;
    let first = app.process()?;
    let mut second = desktop.lasting(session::app()?);
    let mut second = Part::start(second.env("KEYWRIGHT_HOME", desktop.app_home()))?;
    let end = Instant::now() + Duration::from_secs(10);
    let status = loop {
        if let Some(status) = second.child().try_wait()? {
            break status;
        }
        ensure!(Instant::now() < end, "the second instance stays");
        pause(20);
    };
    ensure!(status.success(), "{status}");
    while !app.log().contains("brought forward by a second start") {
        ensure!(
            Instant::now() < end,
            "the first window was not told:\n{}",
            app.log()
        );
        pause(20);
    }
    ensure!(app.process()? == first);
    app.click("nav-settings").await
}

/// What the other tests rely on: whatever happens to them, the machine is as it was before.
#[test]
fn a_test_that_fails_leaves_nothing_behind() -> Result<()> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let journey = std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let desktop = Desktop::start(Keyring::Unlocked).await?;
            Browser::install_cold(&desktop)?;
            let app = desktop.open().await?;
            let browser = desktop
                .command(desktop.path("open-url"))
                .arg("about:blank")
                .status()?;
            let ids = marked(&desktop.mark()).len();
            sender.send((desktop.path(""), desktop.mark(), ids, browser.success()))?;
            app.see("page-keys").await?;
            panic!("on purpose")
        })
    });
    ensure!(journey.join().is_err(), "it should have failed");
    let (folder, mark, ids, browser) = receiver.recv()?;
    ensure!(ids > 8 && browser, "too little was running: {ids}");
    ensure!(
        marked(&mark).is_empty(),
        "processes are left behind: {:?}",
        marked(&mark)
    );
    ensure!(
        !folder.exists(),
        "a folder is left behind: {}",
        folder.display()
    );
    Ok(())
}
