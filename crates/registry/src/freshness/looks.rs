//! Looks at memory where its freshness cannot be told after the look: nothing is answered that the log was
//! not read for.

use std::time::Duration;

use super::{LEASE, ensure, ensure_since, is_trusted, moment};
use crate::{RegistryError, Shared};

/// Since when the log was read for a look, where the header that tells of commits cannot be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadFirst(Duration);

/// Makes sure that what is looked up from now on may be answered, by [`may_answer`].
///
/// # Errors
/// As [`ensure`]: such an error refuses the verification.
pub(crate) async fn before_a_look(shared: &Shared) -> Result<Option<ReadFirst>, RegistryError> {
    let freshness = &shared.freshness;
    if freshness.wal_index.is_none() || freshness.header().is_some() {
        ensure(shared).await?;
        return Ok(None);
    }
    // Nothing will say after the look whether it was fresh: what was committed before this moment is read
    // before it. Slower, never stale.
    let since = moment();
    ensure_since(shared, since).await?;
    Ok(Some(ReadFirst(since)))
}

/// Whether what was looked up may be answered: memory is trusted, by [`is_trusted`], or the log was read for
/// this look, and not so long ago that the process may have been frozen since.
pub(crate) fn may_answer(shared: &Shared, readings: u64, read: Option<ReadFirst>) -> bool {
    is_trusted(shared, readings)
        || read.is_some_and(|ReadFirst(since)| {
            !shared.pool.is_closed() && moment().saturating_sub(since) < LEASE
        })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use keywright_domain::api_keys::{DAY_MS, NewApiKey, Pepper};
    use keywright_domain::audit::Actor;

    use crate::{Caller, Clock, LocalRegistry, PepperKey, Peppers, VerifyRequest};

    #[tokio::test]
    async fn without_a_header_a_verification_reads_the_log_and_answers() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let clock = || Clock::from_fn(|| 1_800_000_000_000);
        let registry = LocalRegistry::open(&file, clock()).await?;
        let pepper = Pepper::from_bytes([7; 32]);
        let id = "pepper-1".to_owned();
        let peppers = Peppers::new(PepperKey { id, pepper });
        let actor = Actor::keywright();
        registry.adopt_pepper(&actor, "pepper-1").await?;
        let wish = NewApiKey {
            name: "a key".to_owned(),
            prefix: "sk_live".to_owned(),
            scopes: vec!["keys:read".to_owned()],
            lifetime_ms: Some(90 * DAY_MS),
            ..NewApiKey::default()
        };
        let issued = registry.issue_api_key(&actor, &wish, &peppers).await?;
        let other = LocalRegistry::open(&file, clock()).await?;
        let blind = &registry.shared.freshness.blind;
        blind.store(true, Ordering::Release);
        let code = async || {
            let request = VerifyRequest {
                presented: issued.plain.text().expose(),
                ..VerifyRequest::default()
            };
            let asked = registry.verify_api_key(&request, &peppers);
            let answer = tokio::time::timeout(Duration::from_secs(5), asked).await??;
            anyhow::Ok(answer.code())
        };
        assert_eq!(code().await?, "valid");
        // And from a place that is throttled.
        let caller = Caller {
            address: Some("192.0.2.1".parse()?),
            ..Caller::default()
        };
        let strange = VerifyRequest {
            presented: "sk_live_nothing",
            caller,
            ..VerifyRequest::default()
        };
        while registry.verify_api_key(&strange, &peppers).await?.code() != "rate_limited" {}
        let request = VerifyRequest {
            presented: issued.plain.text().expose(),
            caller,
            ..VerifyRequest::default()
        };
        let asked = registry.verify_api_key(&request, &peppers);
        let answer = tokio::time::timeout(Duration::from_secs(5), asked).await??;
        assert_eq!(answer.code(), "valid");
        // What another process ends is never let through.
        other.revoke_api_key(&actor, &issued.key.id, "").await?;
        assert_eq!(code().await?, "revoked");
        blind.store(false, Ordering::Release);
        assert_eq!(code().await?, "revoked");
        other.close().await;
        registry.close().await;
        Ok(())
    }
}
