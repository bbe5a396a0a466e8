//! All published keys, in memory. Nodes over one database read them anew now and then; a key is
//! published long before it signs, so nobody meets a token of a key that they do not know.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_domain::audit::Actor;
use keywright_domain::people::{ACCESS_KEPT_MS, KeyState};
use keywright_registry::people::NewSigningKey;
use keywright_registry::{LocalRegistry, RegistryError};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::key::{Verifying, header_of};
use super::{Alg, Signer};
use crate::secrets::ServerSecrets;
use crate::settings::Settings;

/// `typ` of access tokens (RFC 9068 §2.1).
pub(crate) const ACCESS_TYPE: &str = "at+jwt";
/// `typ` of ID tokens.
pub(crate) const ID_TYPE: &str = "JWT";
/// `typ` of logout tokens (OpenID Connect Back-Channel Logout §2.4).
pub(crate) const LOGOUT_TYPE: &str = "logout+jwt";
pub(super) const PURPOSE: &str = "signing key";
const LONGEST_TOKEN: usize = 16 * 1024;

/// Why a token of ours is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenProblem {
    /// Not a signed token at all.
    Malformed,
    /// One of ours, of another type: an ID token is no access token (AC-040).
    WrongUse,
    /// No key of ours made this header.
    UnknownKey,
    /// The signature is not the key's.
    InvalidSignature,
}

impl TokenProblem {
    /// Stable code.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Malformed => "token_malformed",
            Self::WrongUse => "wrong_token_use",
            Self::UnknownKey => "unknown_key",
            Self::InvalidSignature => "invalid_signature",
        }
    }
}

type Verifiers = HashMap<String, (&'static str, Arc<Verifying>)>;

/// The keys of one moment.
#[derive(Default)]
pub(crate) struct KeySet {
    signers: HashMap<Alg, Arc<Signer>>,
    /// By the whole encoded header: our own tokens have one of these, byte for byte, so neither the
    /// algorithm nor the type of a token is ever read from the token.
    verifying: Verifiers,
    /// The same of keys that were retired, for ID tokens that come back as a hint and for nothing else.
    retired: Verifiers,
    jwks: String,
}

impl KeySet {
    /// The key that signs with an algorithm.
    pub(crate) fn signer(&self, alg: Alg) -> Option<&Arc<Signer>> {
        self.signers.get(&alg)
    }

    /// The JWK set as JSON (RFC 7517 §5).
    pub(crate) fn jwks(&self) -> &str {
        &self.jwks
    }

    /// Claims of a token that we signed as this type. Times and audience are the caller's to check.
    pub(crate) fn open<T: DeserializeOwned>(
        &self,
        typ: &'static str,
        token: &str,
    ) -> Result<T, TokenProblem> {
        open(typ, token, |header| self.verifying.get(header))
    }

    /// Claims of an ID token that we signed once. It outlives its key, which is published only until the last
    /// access token has expired; a hint is worth something for as long as its session (OpenID Connect
    /// Core §3.1.2.1).
    pub(crate) fn open_hint<T: DeserializeOwned>(&self, token: &str) -> Result<T, TokenProblem> {
        open(ID_TYPE, token, |header| {
            let published = self.verifying.get(header);
            published.or_else(|| self.retired.get(header))
        })
    }
}

fn open<'a, T: DeserializeOwned>(
    typ: &'static str,
    token: &str,
    find: impl FnOnce(&str) -> Option<&'a (&'static str, Arc<Verifying>)>,
) -> Result<T, TokenProblem> {
    if token.len() > LONGEST_TOKEN {
        return Err(TokenProblem::Malformed);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(TokenProblem::Malformed)?;
    let (header, payload) = message.split_once('.').ok_or(TokenProblem::Malformed)?;
    let Some((found, key)) = find(header) else {
        let readable = URL_SAFE_NO_PAD
            .decode(header)
            .is_ok_and(|json| json.starts_with(b"{"));
        return Err(if readable {
            TokenProblem::UnknownKey
        } else {
            TokenProblem::Malformed
        });
    };
    if *found != typ {
        return Err(TokenProblem::WrongUse);
    }
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| TokenProblem::Malformed)?;
    if !key.verify(message.as_bytes(), &signature) {
        return Err(TokenProblem::InvalidSignature);
    }
    let payload = URL_SAFE_NO_PAD
        .decode(payload)
        .map_err(|_| TokenProblem::Malformed)?;
    serde_json::from_slice(&payload).map_err(|_| TokenProblem::Malformed)
}

/// The keys, read again when they change.
#[derive(Default)]
pub(crate) struct SigningKeys {
    current: parking::Cell,
    reading: Mutex<()>,
}

mod parking {
    //! A pointer that readers copy and one writer replaces.
    use std::sync::{Arc, PoisonError, RwLock};

    use super::KeySet;

    #[derive(Default)]
    pub(crate) struct Cell(RwLock<Arc<KeySet>>);

    impl Cell {
        pub(crate) fn get(&self) -> Arc<KeySet> {
            Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
        }

        pub(crate) fn set(&self, keys: Arc<KeySet>) {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
        }
    }
}

/// Keys cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The key itself.
    #[error(transparent)]
    Key(#[from] super::key::KeyFault),
    /// Sealed under another master key.
    #[error(transparent)]
    Secrets(#[from] crate::secrets::SecretsError),
}

impl SigningKeys {
    /// The keys now.
    pub(crate) fn current(&self) -> Arc<KeySet> {
        self.current.get()
    }

    /// Makes what is missing, brings every key on to where time has it, and reads all anew. Called
    /// at the start and every minute; several nodes may do it at once.
    pub(crate) async fn settle(
        &self,
        registry: &LocalRegistry,
        secrets: &ServerSecrets,
        settings: &Settings,
        now: i64,
    ) -> Result<(), KeysError> {
        let _one = self.reading.lock().await;
        registry.settle_signing_keys(ACCESS_KEPT_MS).await?;
        let known = registry.list_signing_keys().await?;
        for alg in Alg::ALL {
            let mut own = known.iter().filter(|key| key.alg == alg.as_str());
            let active = own.clone().find(|key| key.state == KeyState::Active);
            let waits = own.any(|key| key.state == KeyState::Pending);
            let Some(active) = active else {
                if !waits {
                    let kid = self.add(registry, secrets, alg, None).await?;
                    promote(registry, &kid).await?;
                }
                continue;
            };
            let since = active.activated_at.unwrap_or(active.created_at);
            let next_at = since.saturating_add(settings.signing_key_ms);
            let publish_at = next_at.saturating_sub(settings.signing_key_publish_ms);
            if !waits && now >= publish_at {
                let activate_at = next_at.max(now.saturating_add(settings.signing_key_publish_ms));
                self.add(registry, secrets, alg, Some(activate_at)).await?;
            }
        }
        self.read(registry, secrets, settings).await
    }

    /// Replaces the keys of an algorithm, or of all, now: the new one signs at once where `at_once`
    /// says so (a leak), otherwise after it was published for long enough.
    pub(crate) async fn rotate(
        &self,
        registry: &LocalRegistry,
        secrets: &ServerSecrets,
        settings: &Settings,
        (alg, activate_at): (Alg, Option<i64>),
    ) -> Result<String, KeysError> {
        let _one = self.reading.lock().await;
        let kid = self.add(registry, secrets, alg, activate_at).await?;
        if activate_at.is_none() {
            promote(registry, &kid).await?;
        }
        self.read(registry, secrets, settings).await?;
        Ok(kid)
    }

    async fn add(
        &self,
        registry: &LocalRegistry,
        secrets: &ServerSecrets,
        alg: Alg,
        activate_at: Option<i64>,
    ) -> Result<String, KeysError> {
        let made = tokio::task::spawn_blocking(move || Signer::generate(alg)).await;
        let (signer, pkcs8) = made.map_err(|_| super::key::KeyFault("made"))??;
        let new = NewSigningKey {
            kid: signer.kid.clone(),
            alg: alg.as_str().to_owned(),
            public_jwk: signer.jwk.to_string(),
            sealed: secrets.seal(PURPOSE, &pkcs8),
            activate_at,
        };
        registry.add_signing_key(&Actor::keywright(), &new).await?;
        Ok(signer.kid)
    }

    async fn read(
        &self,
        registry: &LocalRegistry,
        secrets: &ServerSecrets,
        settings: &Settings,
    ) -> Result<(), KeysError> {
        let mut set = KeySet::default();
        // ID tokens of sessions that may live still, and those that came with the last refresh.
        let kept_ms = settings
            .sessions
            .absolute_ms
            .max(settings.refresh.absolute_ms);
        for key in registry.list_retired_signing_keys(kept_ms).await? {
            let Some(alg) = Alg::parse(&key.alg) else {
                continue;
            };
            let jwk = serde_json::from_str::<Value>(&key.public_jwk).ok();
            if let Some(verifying) = jwk.and_then(|jwk| Verifying::from_jwk(alg, &jwk)) {
                let header = header_of(alg, &key.kid, ID_TYPE);
                set.retired.insert(header, (ID_TYPE, Arc::new(verifying)));
            }
        }
        let mut public = Vec::new();
        for key in registry.list_signing_keys().await? {
            let Some(alg) = Alg::parse(&key.alg) else {
                continue;
            };
            let Ok(jwk) = serde_json::from_str::<Value>(&key.public_jwk) else {
                continue;
            };
            if !key.state.is_published() {
                continue;
            }
            if let Some(verifying) = Verifying::from_jwk(alg, &jwk).map(Arc::new) {
                for typ in [ACCESS_TYPE, ID_TYPE, LOGOUT_TYPE] {
                    let header = header_of(alg, &key.kid, typ);
                    set.verifying.insert(header, (typ, Arc::clone(&verifying)));
                }
            }
            public.push(jwk);
            if key.state == KeyState::Active {
                let (found, sealed) = registry.find_active_signing_key(alg.as_str()).await?;
                let pkcs8 = secrets.unseal(PURPOSE, &sealed)?;
                let signer = Signer::from_pkcs8(alg, &pkcs8)?;
                if signer.kid == found.kid {
                    set.signers.insert(alg, Arc::new(signer));
                }
            }
        }
        set.jwks = json!({ "keys": public }).to_string();
        self.current.set(Arc::new(set));
        Ok(())
    }
}

/// Two nodes may make a first key at once; the second one's stays a spare that is published.
async fn promote(registry: &LocalRegistry, kid: &str) -> Result<(), RegistryError> {
    registry
        .promote_signing_key(&Actor::keywright(), kid, ACCESS_KEPT_MS)
        .await
        .map(|_| ())
}
