//! Reads keys and their principals from the database into the index.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use keywright_index::{Applied, KeyId, KeyImage, PackedKid, PrincipalImage, Rules, SecretImage};
use sqlx::AnyConnection;

use super::{PAGE, PAGE_LOST_AFTER, POLL, lost, since_boot};
use crate::store::{self, Kind, images::Image};
use crate::{RegistryError, Shared};

/// Reads the keys of some kids into the index.
pub(crate) async fn load_kids(
    shared: &Shared,
    connection: &mut AnyConnection,
    kids: &[String],
) -> Result<(), RegistryError> {
    let _loading = shared.freshness.loading.read().await;
    for image in store::images::of_kids(connection, kids).await? {
        apply(shared, connection, image).await?;
    }
    Ok(())
}

pub(super) async fn load_principals(
    shared: &Shared,
    connection: &mut AnyConnection,
    ids: &[String],
) -> Result<(), RegistryError> {
    for principal in store::principals::find_all(connection, ids).await? {
        let index = &shared.index;
        let (Some(id), Some(permissions)) = (
            index.intern_principal(&principal.id),
            index.intern_scopes(&principal.permissions),
        ) else {
            return Err(full());
        };
        index.apply_principal(&PrincipalImage {
            id,
            version: principal.epoch,
            disabled: principal.disabled_at.is_some(),
            permissions,
            keys_revoked_at: principal.keys_revoked_at,
        });
    }
    Ok(())
}

/// Puts a key into the index, its principals first where they are not known.
pub(super) async fn apply(
    shared: &Shared,
    connection: &mut AnyConnection,
    image: Image,
) -> Result<(), RegistryError> {
    let unknown: Vec<String> = std::iter::once(&image.owner)
        .chain(&image.creator)
        .filter(|id| {
            let known = shared.index.intern_principal(id);
            known.is_none_or(|id| shared.index.principal(id).is_none())
        })
        .cloned()
        .collect();
    if !unknown.is_empty() {
        load_principals(shared, connection, &unknown).await?;
    }
    let (id, key) = (image.id.clone(), key_image(shared, image)?);
    match shared.index.apply_key(&key) {
        Applied::Applied | Applied::Older => Ok(()),
        Applied::NotHeld => {
            tracing::error!(key = id, "the index of keys is full");
            Err(full())
        }
    }
}

fn full() -> RegistryError {
    RegistryError::Store("the index of keys is full".into())
}

fn key_image(shared: &Shared, image: Image) -> Result<KeyImage, RegistryError> {
    let index = &shared.index;
    let rules = rules(&image);
    let rules = match rules {
        Some(rules) => Some(index.intern_rules(&rules).ok_or_else(full)?),
        None => None,
    };
    let mut secrets = Vec::with_capacity(image.secrets.len());
    for secret in image.secrets {
        if secret.foreign {
            shared.freshness.has_foreign.store(true, Ordering::Release);
        }
        secrets.push(SecretImage {
            kid: PackedKid::parse(&secret.kid).ok_or_else(|| store::secrets::damaged("kid"))?,
            mac: secret.mac,
            pepper: index.intern_text(&secret.pepper_id).ok_or_else(full)?,
            state: secret.state,
            expires_at: secret.expires_at,
            // A pending secret has no overlap to end: its place holds when it is cancelled.
            retires_at: secret.retires_at.or(secret.pending_until),
            first_used: secret.first_used,
            foreign: secret.foreign,
        });
    }
    Ok(KeyImage {
        id: KeyId::parse(&image.id).ok_or_else(|| store::secrets::damaged("key id"))?,
        version: image.epoch,
        environment: index.intern_text(&image.environment).ok_or_else(full)?,
        key_type: keywright_domain::api_keys::KeyType::of(&image.prefix),
        created_at: image.created_at,
        not_before: image.not_before,
        revoked: image.revoked,
        disabled: image.disabled,
        canary: image.canary,
        one_time: image.one_time,
        exposed: image.exposed,
        scopes: index.intern_scopes(&image.scopes).ok_or_else(full)?,
        owner: index.intern_principal(&image.owner),
        creator: image
            .creator
            .as_deref()
            .and_then(|id| index.intern_principal(id)),
        rules,
        secrets,
    })
}

/// What restricts a key beyond its scopes; none for most keys.
fn rules(image: &Image) -> Option<Rules> {
    let open = image.networks.is_empty() && image.origins.is_empty();
    if image.limits.as_slice().is_empty() && open && !image.has_credits {
        return None;
    }
    Some(Rules::new(
        image.limits.clone(),
        image.networks.clone(),
        image.origins.clone(),
        image.has_credits,
    ))
}

/// How far the index was read.
#[derive(Default)]
pub(super) struct Building {
    pub(super) after: String,
    /// The emptying that this began after.
    pub(super) begun: u64,
}

impl Building {
    pub(super) async fn go_on_in_time(
        &mut self,
        shared: &Shared,
    ) -> Result<Duration, RegistryError> {
        if shared.kind == Kind::Sqlite {
            return self.go_on(shared).await;
        }
        tokio::time::timeout(PAGE_LOST_AFTER, self.go_on(shared))
            .await
            .unwrap_or_else(|_| Err(lost(shared)))
    }

    /// Reads one page. Returns how long to wait before the next step.
    async fn go_on(&mut self, shared: &Shared) -> Result<Duration, RegistryError> {
        let until = *shared
            .freshness
            .build_after
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if since_boot() < until {
            return Ok(POLL);
        }
        let mut connection = shared.pool.acquire().await?;
        let _loading = shared.freshness.loading.read().await;
        let emptied = shared.freshness.emptied.load(Ordering::SeqCst);
        if emptied != self.begun {
            // What was read before is gone: none of it may count as there.
            *self = Self {
                after: String::new(),
                begun: emptied,
            };
        }
        if self.after.is_empty() {
            let keys = store::images::count(&mut connection).await?;
            shared.index.reserve(usize::try_from(keys).unwrap_or(0));
        }
        let images = store::images::page(&mut connection, &self.after, PAGE).await?;
        let Some(last) = images.last().map(|image| image.id.clone()) else {
            shared.index.set_complete(true);
            self.after.clear();
            return Ok(POLL);
        };
        for image in images {
            apply(shared, &mut connection, image).await?;
        }
        self.after = last;
        Ok(Duration::ZERO)
    }
}
