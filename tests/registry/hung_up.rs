//! Whoever asks and goes away before their turn: nothing is done for them, but what they did is written down.

use anyhow::{Result, bail, ensure};
use keywright_registry::people::NewSignIn;

/// Puts it into the writer's queue, and goes away before the writer has its turn.
async fn left<T>(asking: impl Future<Output = T>) -> Result<()> {
    let mut asking = Box::pin(asking);
    tokio::select! {
        biased;
        _ = &mut asking => bail!("the writer had its turn"),
        () = std::future::ready(()) => Ok(()),
    }
}

#[tokio::test]
async fn hanging_up_takes_a_change_back_and_hides_nothing() -> Result<()> {
    let fixture = super::fixture().await?;
    let (registry, actor) = (&fixture.registry, &fixture.actor);
    let issued = fixture.issue("kept").await?;
    let id = &issued.key.id;
    let failed = NewSignIn {
        user_id: None,
        identifier: "ada@example.com".to_owned(),
        method: "password".to_owned(),
        failure: Some("credentials_invalid".to_owned()),
        network: "192.0.2.1".to_owned(),
        user_agent: "Firefox".to_owned(),
        session_id: None,
        device: None,
    };
    left(registry.revoke_api_key(actor, id, "")).await?;
    left(registry.mark_api_key_exposed(actor, id, "a URL")).await?;
    left(registry.record_refusal_of_program(actor, "keys:write")).await?;
    left(registry.record_sign_in(&failed)).await?;
    // Behind all of them.
    fixture.issue("last").await?;
    ensure!(fixture.code(&issued).await? == "valid");
    let (key, _) = registry.find_api_key(id).await?;
    ensure!(key.exposed_at.is_some());
    ensure!(registry.list_sign_ins(None, None, 9).await?.items.len() == 1);
    let actions = fixture.actions().await?;
    let refused = actions.iter().filter(|one| *one == "user.access_refused");
    ensure!(refused.count() == 1, "{actions:?}");
    Ok(())
}
