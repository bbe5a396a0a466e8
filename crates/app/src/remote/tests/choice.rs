//! Which registry is in use once the account it was chosen with is gone.

use super::{Outcome, Server, app, issued_here, list, signed_in};

#[tokio::test]
async fn a_choice_that_outlives_its_account_is_this_device() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let first = signed_in(folder.path(), &server.url).await?;
    let (id, _) = issued_here(&first).await?;
    first.choose_registry(Some("a1".to_owned())).await?;
    // Gone past the app: a backup that is older than the sign-in, another program.
    let registry = first.inner.registry.get().await?;
    let actor = &first.inner.actor;
    registry.delete_account(actor, "a1", Vec::new()).await?;
    first.close().await;
    drop(first);

    let again = app(folder.path())?;
    assert_eq!(again.list_registries().await?.current, None);
    let listed = again.list_api_keys(list()).await?;
    assert_eq!(listed.items[0].id, id);
    assert_eq!(again.read_settings()?.registry_account, None);
    // Of an account that somebody names, it is told.
    let unknown = again.choose_registry(Some("a1".to_owned())).await;
    assert_eq!(unknown.expect_err("nobody").code(), "account_not_found");
    again.close().await;
    Ok(())
}

#[cfg(unix)]
#[tokio::test]
async fn a_sign_out_is_done_although_the_settings_cannot_be_written() -> Outcome {
    let server = Server::start().await?;
    let folder = tempfile::tempdir()?;
    let app = signed_in(folder.path(), &server.url).await?;
    let (id, _) = issued_here(&app).await?;
    app.choose_registry(Some("a1".to_owned())).await?;
    // A folder in its place: no file can be put there, whoever asks.
    let file = app.inner.home.settings_file();
    std::fs::remove_file(&file)?;
    std::fs::create_dir_all(file.join("in the way"))?;
    assert!(app.sign_out("a1".to_owned()).await.is_ok());
    assert_eq!(app.list_registries().await?.current, None);
    assert_eq!(app.list_api_keys(list()).await?.items[0].id, id);
    app.close().await;
    Ok(())
}
