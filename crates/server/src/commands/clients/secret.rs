//! `keywright-server clients rotate-secret`, and how a secret from a file is stored.

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::TokenDigest;
use keywright_domain::pkce::random_token;
use keywright_registry::people::NewClientSecret;
use keywright_server::PasswordHasher;
use serde_json::json;

use crate::commands::installation::Installation;

const HOUR_MS: i64 = 60 * 60 * 1000;
/// Bounds of a secret that a person chose, in characters.
const SHORTEST: usize = 16;
const LONGEST: usize = 128;
/// A random text of 43 characters out of 64 has about 31; fewer than this, never.
const FEWEST_DIFFERENT: usize = 20;

#[derive(Debug, clap::Args)]
pub(crate) struct RotateSecret {
    #[command(flatten)]
    installation: Installation,
    /// `client_id`.
    #[arg(long)]
    id: String,
    /// How long the secret before works on.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(0..=720))]
    overlap_hours: u16,
    /// Somebody else may have the secret: it ends now, and so does all that the application was given.
    #[arg(long, conflicts_with = "overlap_hours")]
    compromised: bool,
}

impl RotateSecret {
    pub(super) async fn run(self) -> Result<()> {
        let (_, registry) = self.installation.open().await?;
        let actor = Actor::person("keywright-server clients rotate-secret");
        let secret = random_token(&mut rand::rng());
        let digest = TokenDigest::of(&secret);
        let overlap = i64::from(self.overlap_hours) * HOUR_MS;
        let done = if self.compromised {
            let ended = registry.replace_client_secret(&actor, &self.id, &digest);
            ended.await.map(drop)
        } else {
            let rotated = registry.rotate_client_secret(&actor, &self.id, &digest, overlap);
            rotated.await
        };
        registry.close().await;
        done?;
        eprintln!("its secret, shown once and stored nowhere, is in the line below");
        println!(
            "{}",
            json!({ "client_id": self.id, "client_secret": secret.expose() })
        );
        Ok(())
    }
}

/// A secret from a file, as it is to be stored: what has the form of one of ours by its digest, which is
/// quick; everything else may have been thought up by somebody, and is stored as argon2id.
///
/// # Errors
/// Why it cannot be used, and what to do.
pub(super) async fn stored(secret: &SecretText) -> Result<NewClientSecret> {
    if is_random(secret.expose()) {
        return Ok(NewClientSecret::Random(TokenDigest::of(secret)));
    }
    if !(SHORTEST..=LONGEST).contains(&secret.expose().chars().count()) {
        bail!(
            "the secret has {SHORTEST} to {LONGEST} characters: leave --secret-file out, and a good \
             one is made"
        );
    }
    let hash = PasswordHasher::new(1)?.hash(secret).await?;
    Ok(NewClientSecret::Chosen(hash))
}

/// Whether a text is 256 random bits as we write them. Of texts that are, one in some thousands lacks a
/// digit and is taken for a chosen one, which costs time and nothing else.
fn is_random(text: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| text.bytes().any(|byte| kind(&byte));
    let mut letters: Vec<u8> = text.bytes().collect();
    letters.sort_unstable();
    letters.dedup();
    URL_SAFE_NO_PAD
        .decode(text)
        .is_ok_and(|bytes| bytes.len() == 32)
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_uppercase)
        && letters.len() >= FEWEST_DIFFERENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn c_11_what_a_person_may_have_chosen_is_stored_as_argon2id() {
        let kind = async |text: &str| stored(&SecretText::new(text.to_owned())).await;
        let mut random = 0;
        for _ in 0..20 {
            let made = random_token(&mut rand::rng());
            let how = kind(made.expose()).await.unwrap();
            random += usize::from(matches!(how, NewClientSecret::Random(_)));
        }
        assert!(random >= 19, "{random}");
        for chosen in [
            "correct horse battery",
            "Passw0rd-Passw0rd-Passw0rd-Passw0rd-Passw0r",
            "a-long-secret-of-a-confidential-client-0123456789",
            "0123456789abcdef0123456789abcdef",
        ] {
            let how = kind(chosen).await.unwrap();
            let NewClientSecret::Chosen(hash) = how else {
                panic!("{chosen} is stored by its digest");
            };
            assert!(hash.expose().starts_with("$argon2id$"));
        }
        assert!(kind("fifteen letters").await.is_err());
        assert!(kind(&"long ".repeat(26)).await.is_err());
    }
}
