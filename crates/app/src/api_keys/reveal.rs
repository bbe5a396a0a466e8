//! Secrets that were just made and wait to be shown once. They are nowhere else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keywright_domain::SecretText;
use keywright_domain::api_keys::PlainKey;
use keywright_domain::base62::random_id;
use keywright_protocol::api_keys::{
    ApiKeyView, CopiedView, IssuedApiKeyView, RevealedSecretView, SecretSnippet, WaitingSecretView,
};

use crate::clock::now_ms;
use crate::{App, AppError};

/// How long a secret waits for the person.
const WAIT: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(crate) struct Reveals(Mutex<HashMap<String, Waiting>>);

struct Waiting {
    secret: SecretText,
    shown: bool,
    /// It was copied or delivered: it is somewhere besides here.
    taken: bool,
    expires_at: i64,
    origin: Origin,
    /// The key as it was when the secret was made.
    key: ApiKeyView,
}

/// What made a waiting secret.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    pub(crate) key_id: String,
    /// The account whose server has the key; none for this device.
    pub(crate) account_id: Option<String>,
    /// None for the first secret of a key.
    pub(crate) rotation_id: Option<String>,
}

impl Reveals {
    pub(super) fn keep(
        &self,
        secret: SecretText,
        origin: Origin,
        key: ApiKeyView,
        now: i64,
    ) -> IssuedApiKeyView {
        let reveal_id = random_id(&mut rand::rng());
        let expires_at = now + i64::try_from(WAIT.as_millis()).unwrap_or(0);
        let waiting = Waiting {
            secret,
            shown: false,
            taken: false,
            expires_at,
            origin,
            key: key.clone(),
        };
        self.lock().insert(reveal_id.clone(), waiting);
        IssuedApiKeyView {
            key,
            reveal_id,
            reveal_expires_at: expires_at,
        }
    }

    /// What waits and was neither copied nor delivered, the oldest first.
    fn waiting(&self, now: i64) -> Vec<WaitingSecretView> {
        let all = self.lock();
        let mut waiting: Vec<_> = all
            .iter()
            .filter(|(_, one)| one.expires_at > now && !one.taken)
            .map(|(id, one)| WaitingSecretView {
                issued: IssuedApiKeyView {
                    key: one.key.clone(),
                    reveal_id: id.clone(),
                    reveal_expires_at: one.expires_at,
                },
                rotated: one.origin.rotation_id.is_some(),
            })
            .collect();
        waiting.sort_by_key(|one| one.issued.reveal_expires_at);
        waiting
    }

    /// How many secrets are nowhere but here.
    pub(crate) fn untaken(&self, now: i64) -> u32 {
        u32::try_from(self.waiting(now).len()).unwrap_or(u32::MAX)
    }

    /// A secret was copied or delivered.
    pub(crate) fn take(&self, id: &str) {
        if let Some(waiting) = self.lock().get_mut(id) {
            waiting.taken = true;
        }
    }

    pub(super) fn find_by_rotation(&self, rotation_id: &str) -> Option<(String, i64)> {
        let waiting = self.lock();
        let found = waiting
            .iter()
            .find(|(_, waiting)| waiting.origin.rotation_id.as_deref() == Some(rotation_id));
        found.map(|(id, waiting)| (id.clone(), waiting.expires_at))
    }

    fn show(&self, id: &str, now: i64) -> Result<SecretText, AppError> {
        let mut all = self.lock();
        let waiting = all
            .get_mut(id)
            .filter(|waiting| waiting.expires_at > now)
            .ok_or(AppError::SecretGone)?;
        if std::mem::replace(&mut waiting.shown, true) {
            return Err(AppError::AlreadyRevealed);
        }
        Ok(waiting.secret.clone())
    }

    fn peek(&self, id: &str, now: i64) -> Result<SecretText, AppError> {
        let all = self.lock();
        let waiting = all
            .get(id)
            .filter(|waiting| waiting.expires_at > now)
            .ok_or(AppError::SecretGone)?;
        Ok(waiting.secret.clone())
    }

    /// A waiting secret and what made it; it goes on waiting.
    pub(crate) fn borrow(&self, id: &str, now: i64) -> Result<(SecretText, Origin), AppError> {
        let secret = self.peek(id, now)?;
        let origin = self.lock().get(id).map(|waiting| waiting.origin.clone());
        Ok((secret, origin.ok_or(AppError::SecretGone)?))
    }

    pub(crate) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    pub(crate) fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// The show-once path: gives the secret to the face, once.
    ///
    /// # Errors
    /// [`AppError::AlreadyRevealed`], [`AppError::SecretGone`].
    pub fn reveal_secret(&self, reveal_id: String) -> Result<RevealedSecretView, AppError> {
        let secret = self.inner.reveals.show(&reveal_id, now_ms())?;
        Ok(RevealedSecretView {
            secret: secret.expose().to_owned(),
        })
    }

    /// Puts a waiting secret on the clipboard; it is taken back after a while.
    ///
    /// # Errors
    /// [`AppError::SecretGone`], [`AppError::Clipboard`].
    pub async fn copy_secret(
        &self,
        reveal_id: String,
        snippet: SecretSnippet,
    ) -> Result<CopiedView, AppError> {
        let secret = self.inner.reveals.peek(&reveal_id, now_ms())?;
        let pause = Duration::from_secs(u64::from(self.inner.settings.current().clipboard_clear_s));
        let copied = self
            .inner
            .clipboard
            .copy_secret(snippet_text(&secret, snippet))
            .await?;
        self.inner.reveals.take(&reveal_id);
        let app = self.clone();
        tokio::spawn(async move {
            if copied.clear_after(pause).await {
                app.inner.events.clipboard_cleared();
            }
        });
        Ok(CopiedView {
            clears_at: now_ms() + i64::try_from(pause.as_millis()).unwrap_or(0),
        })
    }

    /// The secrets that wait and are nowhere else: a window that was loaded anew shows them again.
    ///
    /// # Errors
    /// None today; faces treat every command alike.
    pub fn list_waiting_secrets(&self) -> Result<Vec<WaitingSecretView>, AppError> {
        Ok(self.inner.reveals.waiting(now_ms()))
    }

    /// Forgets a waiting secret.
    ///
    /// # Errors
    /// None today; faces treat every command alike.
    pub fn discard_secret(&self, reveal_id: String) -> Result<(), AppError> {
        self.inner.reveals.forget(&reveal_id);
        Ok(())
    }

    pub(super) fn forget_reveal_later(&self, reveal_id: String) {
        let app = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(WAIT).await;
            app.inner.reveals.forget(&reveal_id);
        });
    }
}

/// Ready text for a terminal or a file. The key never stands in an argument list, where every
/// process of the machine could read it: curl reads it from its standard input.
fn snippet_text(secret: &SecretText, snippet: SecretSnippet) -> SecretText {
    let key = secret.expose();
    let prefix = PlainKey::parse(key)
        .map(|plain| plain.prefix().to_string())
        .unwrap_or_default();
    let name = format!("{}_KEY", prefix.to_uppercase());
    SecretText::new(match snippet {
        SecretSnippet::Key => key.to_owned(),
        SecretSnippet::DotEnv => format!("{name}={key}\n"),
        SecretSnippet::ShellExport => format!("export {name}='{key}'\n"),
        SecretSnippet::Curl => format!(
            "curl --config - https://api.example.com/ <<'END'\nheader = \"Authorization: Bearer {key}\"\nEND\n"
        ),
    })
}

#[cfg(test)]
mod tests {
    use keywright_protocol::api_keys::ApiKeyState;

    use super::*;

    fn view() -> ApiKeyView {
        ApiKeyView {
            id: "key".to_owned(),
            name: "Key".to_owned(),
            prefix: "sk_live".to_owned(),
            scopes: Vec::new(),
            state: ApiKeyState::Active,
            kid: String::new(),
            last_four: String::new(),
            created_at: 0,
            expires_at: None,
            old_secret_works_until: None,
            last_used_at: None,
            revoked_at: None,
            revoked_reason: None,
            revocation_queued_at: None,
            moved_to: None,
            may_change: true,
        }
    }

    fn origin(rotation_id: Option<&str>) -> Origin {
        Origin {
            key_id: "key".to_owned(),
            account_id: None,
            rotation_id: rotation_id.map(str::to_owned),
        }
    }

    #[test]
    fn ac_122_a_secret_is_shown_once_and_can_be_copied_until_it_is_discarded() {
        let reveals = Reveals::default();
        let kept = reveals.keep(SecretText::new("sk_live_x".into()), origin(None), view(), 0);
        let (id, expires_at) = (kept.reveal_id, kept.reveal_expires_at);
        assert!(
            reveals
                .show(&id, 1)
                .is_ok_and(|secret| secret.matches("sk_live_x"))
        );
        assert_eq!(
            reveals.show(&id, 2).expect_err("shown").code(),
            "already_revealed"
        );
        assert!(reveals.peek(&id, 3).is_ok());
        assert_eq!(
            reveals.peek(&id, expires_at).expect_err("late").code(),
            "secret_gone"
        );
        reveals.forget(&id);
        assert_eq!(
            reveals.show(&id, 4).expect_err("gone").code(),
            "secret_gone"
        );
    }

    #[test]
    fn a_secret_waits_until_it_is_copied_delivered_or_too_old() {
        let reveals = Reveals::default();
        let keep = |text: &str, of, now| {
            reveals.keep(SecretText::new(text.into()), origin(of), view(), now)
        };
        let first = keep("a", None, 0);
        let second = keep("b", Some("r"), 1);
        let waiting = reveals.waiting(2);
        assert_eq!(waiting.len(), 2);
        assert_eq!(waiting[0].issued, first);
        assert_eq!((&waiting[1].issued, waiting[1].rotated), (&second, true));
        reveals.take(&first.reveal_id);
        assert_eq!(reveals.untaken(2), 1);
        assert!(
            reveals.peek(&first.reveal_id, 2).is_ok(),
            "it is not gone by that"
        );
        assert_eq!(reveals.untaken(second.reveal_expires_at), 0);
    }

    #[test]
    fn a_retried_rotation_finds_the_same_secret() {
        let reveals = Reveals::default();
        let kept = reveals.keep(
            SecretText::new("x".into()),
            origin(Some("again")),
            view(),
            0,
        );
        let kept = (kept.reveal_id, kept.reveal_expires_at);
        assert_eq!(reveals.find_by_rotation("again"), Some(kept));
        assert_eq!(reveals.find_by_rotation("other"), None);
    }

    #[test]
    fn no_snippet_puts_the_key_into_an_argument_list() {
        let text = snippet_text(&SecretText::new("sk_live_x".into()), SecretSnippet::Curl);
        let command = text.expose().lines().next().unwrap_or_default();
        assert!(command.starts_with("curl ") && !command.contains("sk_live_x"));
    }

    #[test]
    fn a_snippet_names_the_variable_after_the_prefix() -> Result<(), Box<dyn std::error::Error>> {
        let prefix = keywright_domain::api_keys::Prefix::new("sk_live")?;
        let plain = PlainKey::generate(&prefix, &mut rand::rng());
        let line = snippet_text(plain.text(), SecretSnippet::DotEnv);
        assert_eq!(
            line.expose(),
            format!("SK_LIVE_KEY={}\n", plain.text().expose())
        );
        Ok(())
    }
}
