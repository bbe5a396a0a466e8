//! Delivery of a new secret to where programs read it: to every target or to none. Each is written,
//! read back and compared; where one fails, those before it are put back as they were and the
//! rotation is taken back, so that the old secret stays in use. No shell, no network.

mod command;
mod dot_env;
mod file;
mod target;
#[cfg(test)]
mod tests;

use keywright_domain::SecretText;
use keywright_domain::api_keys::PlainKey;
use keywright_protocol::ErrorView;
use keywright_protocol::api_keys::{
    DeliverSecretRequest, DeliveryOutcome, DeliveryState, DeliveryView,
};

use crate::api_keys::{Origin, key_view};
use crate::clock::now_ms;
use crate::secret_store::Keychain;
use crate::{App, AppError};
use target::{Former, Target};

/// Most targets of one delivery.
const MOST_TARGETS: usize = 16;

/// Why a delivery cannot begin. Nothing was touched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// None, or too many.
    #[error("a delivery has 1 to {MOST_TARGETS} targets")]
    TargetCount,
    /// A target that breaks a rule.
    #[error("{target}: {reason}")]
    Target {
        /// The target, for people.
        target: String,
        /// The rule.
        reason: String,
    },
}

impl DeliveryError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "invalid_target"
    }
}

/// Why one target failed, for people. Never holds the secret.
pub(crate) type Reason = String;

/// What became of the targets, in the order they were taken.
struct Run {
    outcomes: Vec<DeliveryOutcome>,
    /// The first that failed, and why.
    failed: Option<(String, Reason)>,
}

impl App {
    /// Delivers a waiting secret. It goes on waiting to be shown, unless the delivery failed and
    /// its rotation was taken back: then it is dead.
    ///
    /// What is read back is compared byte by byte, and the registry is asked whether this secret
    /// is live. It is not presented for verification: that would count as its first use and start
    /// the clock of the overlap before any program has it.
    ///
    /// # Errors
    /// [`DeliveryError`] before anything is touched; [`AppError::SecretGone`];
    /// [`AppError::Registry`]. A target that fails is no error: it stands in the view.
    pub async fn deliver_secret(
        &self,
        request: DeliverSecretRequest,
    ) -> Result<DeliveryView, AppError> {
        if !(1..=MOST_TARGETS).contains(&request.targets.len()) {
            return Err(DeliveryError::TargetCount.into());
        }
        let _running = self.inner.work.begin();
        let (secret, origin) = self.inner.reveals.borrow(&request.reveal_id, now_ms())?;
        let mut targets = Vec::new();
        for asked in request.targets {
            targets.push(Target::check(
                asked,
                &secret,
                self.inner.home.folder(),
                self.inner.keychain.service(),
            )?);
        }
        let run = deliver_all(&self.inner.keychain, &targets, &secret, || {
            self.is_live(&secret, &origin)
        })
        .await;
        let mut cancelled = None;
        if run.failed.is_none() {
            self.inner.reveals.take(&request.reveal_id);
        }
        if let Some((target, _)) = &run.failed {
            tracing::warn!(code = "hook_failed", "a delivery failed");
            cancelled = self
                .cancel_rotation_of(&origin, &secret)
                .await
                .unwrap_or_else(|error| {
                    tracing::error!(code = error.code(), target, "a rotation was not taken back");
                    None
                });
        }
        let rotation_cancelled = cancelled.is_some();
        if rotation_cancelled {
            self.inner.reveals.forget(&request.reveal_id);
        }
        let key = match cancelled {
            Some(key) => key,
            None => {
                let registry = self.keys_of(origin.account_id.as_deref()).await?;
                registry.find_api_key(&origin.key_id).await?.value.0
            }
        };
        Ok(DeliveryView {
            problem: run
                .failed
                .map(|(target, reason)| problem(&target, &reason, &origin, rotation_cancelled)),
            outcomes: run.outcomes,
            rotation_cancelled,
            key: key_view(&key, now_ms()),
        })
    }

    /// Whether the registry has this secret as one that verifies.
    async fn is_live(&self, secret: &SecretText, origin: &Origin) -> Result<(), Reason> {
        let plain = PlainKey::parse(secret.expose()).map_err(|error| error.to_string())?;
        let registry = self.keys_of(origin.account_id.as_deref()).await;
        let registry = registry.map_err(|error| error.to_string())?;
        let found = registry.find_api_key(&origin.key_id).await;
        let found = found.map_err(|error| error.to_string())?;
        if found.as_of.is_some() {
            return Err("the server of this key does not answer".to_owned());
        }
        let (key, _) = found.value;
        let now = now_ms();
        let mut secrets = key.secrets.iter();
        if secrets.any(|secret| secret.kid == *plain.kid() && secret.state(now).verifies()) {
            Ok(())
        } else {
            Err("the registry does not accept this secret any more".to_owned())
        }
    }
}

fn problem(target: &str, reason: &str, origin: &Origin, cancelled: bool) -> ErrorView {
    let hint = match (cancelled, &origin.rotation_id) {
        (true, _) => {
            "The old secret stays in use and the new one is dead. Mend the target and rotate again."
        }
        (false, Some(_)) => {
            "The rotation could not be taken back: the new secret still works. Store it yourself, or try again."
        }
        (false, None) => "The key works and still waits here: store it yourself, or try again.",
    };
    let reason = reason.trim_end_matches('.');
    ErrorView {
        code: "hook_failed".to_owned(),
        message: format!("The secret did not reach {target}: {reason}."),
        hint: Some(hint.to_owned()),
        retryable: !cancelled,
    }
}

/// Delivers to every target or puts all back. Commands come last: what they do cannot be undone.
async fn deliver_all<F>(
    keychain: &Keychain,
    targets: &[Target],
    secret: &SecretText,
    confirm: impl FnOnce() -> F,
) -> Run
where
    F: Future<Output = Result<(), Reason>>,
{
    let mut outcomes: Vec<DeliveryOutcome> = targets
        .iter()
        .map(|target| DeliveryOutcome {
            target: target.to_string(),
            state: DeliveryState::NotTried,
            read_back: false,
            detail: None,
        })
        .collect();
    let mut order: Vec<usize> = (0..targets.len()).collect();
    order.sort_by_key(|index| targets[*index].is_command());
    let mut written: Vec<(usize, Former)> = Vec::new();
    let mut failed = None;
    for index in order {
        let target = &targets[index];
        match deliver_one(keychain, target, secret).await {
            Ok((former, read_back)) => {
                outcomes[index].state = DeliveryState::Delivered;
                outcomes[index].read_back = read_back;
                written.push((index, former));
            }
            Err((reason, former)) => {
                outcomes[index].state = DeliveryState::Failed;
                outcomes[index].detail = Some(reason.clone());
                if let Some(former) = former
                    && let Err(why) = target.restore(keychain, former).await
                {
                    outcomes[index].state = DeliveryState::NotRestored;
                    outcomes[index].detail = Some(format!("{reason}; {why}"));
                }
                failed = Some((target.to_string(), reason));
                break;
            }
        }
    }
    if failed.is_none()
        && let Err(reason) = confirm().await
    {
        failed = Some(("the registry".to_owned(), reason));
    }
    if failed.is_some() {
        // Last in, first out: two targets may be in the same file.
        for (index, former) in written.into_iter().rev() {
            outcomes[index].read_back = false;
            match targets[index].restore(keychain, former).await {
                Ok(()) => outcomes[index].state = DeliveryState::Restored,
                Err(why) => {
                    outcomes[index].state = DeliveryState::NotRestored;
                    outcomes[index].detail = Some(why);
                }
            }
        }
    }
    Run { outcomes, failed }
}

/// Writes and reads back. On failure: why, and what to put back if anything was touched.
async fn deliver_one(
    keychain: &Keychain,
    target: &Target,
    secret: &SecretText,
) -> Result<(Former, bool), (Reason, Option<Former>)> {
    let former = target.former(keychain).await.map_err(|why| (why, None))?;
    if let Err(reason) = target.write(keychain, secret).await {
        // A program that says no has not taken it.
        return Err((reason, Some(former).filter(|_| !target.is_command())));
    }
    match target.read_back(keychain).await {
        Ok(None) => Ok((former, false)),
        Ok(Some(read)) if read.matches(secret.expose()) => Ok((former, true)),
        Ok(Some(_)) => Err((
            "what was read back is not what was written".to_owned(),
            Some(former),
        )),
        Err(reason) => Err((reason, Some(former))),
    }
}
