//! API keys: issue, change, suspend, revoke, find. The rules are the domain's; the transaction,
//! the rows and the audit event are here.

use keywright_domain::api_keys::{
    ApiKey, KeyDigest, KeyError, KeySettings, Kid, NewApiKey, OwnerKind, PlainKey, Policy,
    Rotation, Secret, SecretState,
};
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::base62::ordered_id;
use keywright_domain::scopes::ScopeSet;

use crate::audit::AuditEvent;
use crate::peppers::{PepperKey, Peppers};
use crate::store::api_keys::Extent;
use crate::store::secrets::{SecretInsert, StoredMac};
use crate::store::{self, audit::NewEvent};
use crate::writer::{Subject, Unit, Wants};
use crate::{LocalRegistry, RegistryError};

pub use crate::listing::{
    ApiKeyCounts, ApiKeyFilter, ApiKeyOrder, ApiKeyPage, ApiKeyQuery, ApiKeySummary, ApiKeyTotal,
    StateFilter,
};

/// The principal of a registry that knows no people: whoever sits at this device.
pub const LOCAL_PRINCIPAL: &str = "local";

/// A key and its new secret, in plain text for the one and only time.
#[derive(Debug)]
pub struct Issued {
    /// The record.
    pub key: ApiKey,
    /// The secret.
    pub plain: PlainKey,
}

/// A secret that was made somewhere else: its text never reaches the registry.
#[derive(Clone, Debug)]
pub struct ClientSecret {
    /// Kid inside its text.
    pub kid: Kid,
    /// Last four characters of its text.
    pub last_four: String,
    /// SHA-256 of its whole text.
    pub digest: KeyDigest,
}

impl ClientSecret {
    /// What a client sends of a key that it made.
    #[must_use]
    pub fn of(plain: &PlainKey) -> Self {
        Self {
            kid: plain.kid().clone(),
            last_four: plain.last_four().to_owned(),
            digest: KeyDigest::of(plain),
        }
    }

    pub(crate) fn check(&self) -> Result<(), RegistryError> {
        let plain = |letter: char| letter.is_ascii_alphanumeric();
        if self.last_four.len() == 4 && self.last_four.chars().all(plain) {
            Ok(())
        } else {
            Err(KeyError::ClientSecret.into())
        }
    }
}

/// What is to change of a key; none leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct ApiKeyChange {
    /// Another name.
    pub name: Option<String>,
    /// Other scopes.
    pub scopes: Option<Vec<String>>,
    /// Other settings, as a whole.
    pub settings: Option<KeySettings>,
    /// What whoever asks holds: a scope that the key did not have must be within. None for no bound.
    pub held: Option<ScopeSet>,
    /// The epoch that the caller saw: if the key changed since, [`RegistryError::Changed`].
    pub if_epoch: Option<i64>,
}

/// A secret about to be stored.
#[derive(Clone)]
pub(crate) struct NewSecret {
    pub(crate) kid: Kid,
    pub(crate) last_four: String,
    pub(crate) mac: StoredMac,
    pub(crate) from_client: bool,
}

impl NewSecret {
    pub(crate) fn of_plain(plain: &PlainKey, pepper: &PepperKey) -> Self {
        Self {
            from_client: false,
            ..Self::of_client(&ClientSecret::of(plain), pepper)
        }
    }

    pub(crate) fn of_client(secret: &ClientSecret, pepper: &PepperKey) -> Self {
        Self {
            kid: secret.kid.clone(),
            last_four: secret.last_four.clone(),
            mac: StoredMac {
                mac: pepper.pepper.mac(&secret.digest),
                algorithm: store::secrets::OURS,
                pepper_id: pepper.id.clone(),
            },
            from_client: true,
        }
    }
}

impl LocalRegistry {
    /// Issues a key.
    ///
    /// # Errors
    /// [`RegistryError::Key`] for a broken rule or policy; [`RegistryError::OwnerNotFound`];
    /// [`RegistryError`] if nothing can be written.
    pub async fn issue_api_key(
        &self,
        actor: &Actor,
        wish: &NewApiKey,
        peppers: &Peppers,
    ) -> Result<Issued, RegistryError> {
        let prefix = wish.checked_prefix()?;
        let plain = PlainKey::generate(&prefix, &mut rand::rng());
        let secret = NewSecret::of_plain(&plain, peppers.current());
        let key = self.issue(actor, wish, secret).await?;
        Ok(Issued { key, plain })
    }

    /// Issues a key whose secret the client made: only its kid and digest come here.
    ///
    /// # Errors
    /// As [`Self::issue_api_key`]; [`KeyError::ClientSecret`] for a kid that is in use.
    pub async fn issue_api_key_for(
        &self,
        actor: &Actor,
        wish: &NewApiKey,
        secret: &ClientSecret,
        peppers: &Peppers,
    ) -> Result<ApiKey, RegistryError> {
        secret.check()?;
        self.issue(actor, wish, NewSecret::of_client(secret, peppers.current()))
            .await
    }

    pub(crate) async fn issue(
        &self,
        actor: &Actor,
        wish: &NewApiKey,
        secret: NewSecret,
    ) -> Result<ApiKey, RegistryError> {
        let id = ordered_id(self.now(), &mut rand::rng());
        let owner = wish.owner.as_ref().map(|owner| owner.id.clone());
        let wants = Wants {
            principals: owner.into_iter().chain(wish.creator.clone()).collect(),
            rotation: None,
            refresh: None,
        };
        let input = (actor.clone(), wish.clone(), secret, id);
        self.write_grouped(input, wants, |unit, (actor, wish, secret, id)| {
            Box::pin(issue(unit, actor, wish, secret, id))
        })
        .await
    }

    /// Changes name, scopes or settings. Scopes never grow beyond what the creator may do.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`], [`RegistryError::Changed`], [`RegistryError::Key`].
    pub async fn change_api_key(
        &self,
        actor: &Actor,
        id: &str,
        change: &ApiKeyChange,
    ) -> Result<ApiKey, RegistryError> {
        let input = (actor.clone(), id.to_owned(), change.clone());
        self.write(input, |unit, (actor, id, change)| {
            Box::pin(change_key(unit, actor, id, change))
        })
        .await
    }

    /// Ends a key; the next verification refuses it. Ending it again changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`], [`RegistryError::Key`].
    pub async fn revoke_api_key(
        &self,
        actor: &Actor,
        id: &str,
        reason: &str,
    ) -> Result<ApiKey, RegistryError> {
        self.end(actor, id, reason, End::Revoke).await
    }

    /// Suspends a key until it is enabled again. Suspending it again changes nothing.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`], [`RegistryError::Key`].
    pub async fn disable_api_key(
        &self,
        actor: &Actor,
        id: &str,
        reason: &str,
    ) -> Result<ApiKey, RegistryError> {
        self.end(actor, id, reason, End::Disable).await
    }

    /// Ends a suspension. A revoked key stays revoked.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`], [`RegistryError::Key`].
    pub async fn enable_api_key(&self, actor: &Actor, id: &str) -> Result<ApiKey, RegistryError> {
        self.end(actor, id, "", End::Enable).await
    }

    /// Writes down that the key's text was seen where none belongs. It goes on working: whoever
    /// owns it decides.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`].
    pub async fn mark_api_key_exposed(
        &self,
        actor: &Actor,
        id: &str,
        seen_in: &str,
    ) -> Result<ApiKey, RegistryError> {
        let input = (actor.clone(), id.to_owned(), seen_in.to_owned());
        // Whoever showed it may hang up: its owner is to hear of it.
        self.write_anyway(input, |unit, (actor, id, seen_in)| {
            Box::pin(end_key(unit, actor, id, seen_in, End::Expose))
        })
        .await
    }

    async fn end(
        &self,
        actor: &Actor,
        id: &str,
        reason: &str,
        end: End,
    ) -> Result<ApiKey, RegistryError> {
        let input = (actor.clone(), id.to_owned(), reason.to_owned(), end);
        self.write(input, |unit, (actor, id, reason, end)| {
            Box::pin(end_key(unit, actor, id, reason, *end))
        })
        .await
    }

    /// A key with its secrets and its latest 100 events. One that was revoked with all keys of its owner
    /// shows it.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`].
    pub async fn find_api_key(&self, id: &str) -> Result<(ApiKey, Vec<AuditEvent>), RegistryError> {
        // One snapshot for both reads, and what waits in memory shows in the counts.
        self.flush_uses().await.unwrap_or_else(|error| {
            tracing::warn!(code = error.code(), "use counts may be behind");
        });
        let mut transaction = self.shared.pool.begin().await?;
        let key = store::api_keys::find(&mut transaction, id)
            .await?
            .ok_or(RegistryError::KeyNotFound)?;
        let events = store::audit::list_of_target(&mut transaction, "api_key", id, 100).await?;
        Ok((key, events))
    }

    /// The latest 100 rotations of a key, newest first.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_rotations(&self, key_id: &str) -> Result<Vec<Rotation>, RegistryError> {
        store::rotations::list_of_key(&mut *self.shared.pool.acquire().await?, key_id, 100).await
    }
}

/// What happens to a key as a whole.
#[derive(Clone, Copy)]
pub(crate) enum End {
    Revoke,
    Disable,
    Enable,
    Expose,
}

pub(crate) async fn issue(
    unit: &mut Unit,
    actor: &Actor,
    wish: &NewApiKey,
    new: &NewSecret,
    id: &str,
) -> Result<ApiKey, RegistryError> {
    let mut key = judge(unit, wish, new, id).await?;
    key.epoch = unit.change(Subject::ApiKey(id.to_owned()));
    let secret = key.secrets[0].clone();
    insert_key(unit, &key, &secret, &new.mac).await?;
    let mut details = secret_details(&secret);
    details.push(("scopes", key.scopes.to_string()));
    if key.owner.id != LOCAL_PRINCIPAL {
        details.push(("owner", key.owner.id.clone()));
    }
    unit.audit(
        actor,
        about_key(AuditAction::ApiKeyIssued, &key, "issued", details),
    );
    Ok(key)
}

/// The key that a wish makes, judged by every rule and not written yet.
pub(crate) async fn judge(
    unit: &mut Unit,
    wish: &NewApiKey,
    new: &NewSecret,
    id: &str,
) -> Result<ApiKey, RegistryError> {
    let now = unit.now();
    let catalogue = unit.catalogue().await?;
    let (name, prefix, scopes) = wish.check(&catalogue, now)?;
    let environment = wish.environment_for(&prefix);
    let mut settings = wish.settings.clone();
    let policy = policy_of(unit, &environment, wish.allow_never_expires).await?;
    policy
        .check_issue(&prefix, &scopes, wish.lifetime_ms)
        .map_err(KeyError::from)?;
    policy.apply_rate_limit_floor(&mut settings);
    policy.check_settings(&settings).map_err(KeyError::from)?;
    let owner = wish
        .owner
        .clone()
        .unwrap_or_else(|| keywright_domain::api_keys::Owner {
            kind: OwnerKind::Person,
            id: LOCAL_PRINCIPAL.to_owned(),
        });
    let principal = unit
        .principal(&owner.id)
        .await?
        .filter(|principal| principal.disabled_at.is_none() && principal.kind == owner.kind)
        .ok_or(RegistryError::OwnerNotFound)?;
    // A key made in the millisecond in which all earlier ones were revoked is not one of them.
    let created_at = principal
        .keys_revoked_at
        .map_or(now, |revoked| now.max(revoked.saturating_add(1)));
    check_grant(unit, wish.creator.as_deref(), &scopes).await?;
    if new.from_client
        && store::secrets::find_key_id(unit.read(), new.kid.as_str())
            .await?
            .is_some()
    {
        return Err(KeyError::ClientSecret.into());
    }
    let secret = Secret::new(
        new.kid.clone(),
        &new.last_four,
        SecretState::Active,
        now,
        wish.lifetime_ms,
    );
    Ok(ApiKey {
        id: id.to_owned(),
        name,
        prefix,
        environment,
        owner,
        creator: wish.creator.clone(),
        scopes,
        settings,
        epoch: 0,
        created_at,
        not_before: wish.not_before,
        disabled_at: None,
        disabled_reason: None,
        exposed_at: None,
        revoked_at: None,
        revoked_reason: None,
        revoked_with_owner: false,
        promoted_to: None,
        secrets: vec![secret],
    })
}

/// Writes a new key with its first secret, and its credits.
pub(crate) async fn insert_key(
    unit: &mut Unit,
    key: &ApiKey,
    secret: &Secret,
    mac: &StoredMac,
) -> Result<(), RegistryError> {
    let insert = SecretInsert {
        key_id: key.id.clone(),
        position: 0,
        secret: secret.clone(),
        stored: mac.clone(),
    };
    unit.put(key, Extent::New, Some(insert), Vec::new(), Vec::new())
        .await?;
    if let Some(plan) = &key.settings.credits {
        // Its row refers to the key's.
        unit.settle(&key.id, "").await?;
        let now = unit.now();
        store::credits::put(unit.write(), &key.id, plan.amount, now).await?;
    }
    Ok(())
}

/// A creator cannot grant more than they hold.
pub(crate) async fn check_grant(
    unit: &mut Unit,
    creator: Option<&str>,
    scopes: &ScopeSet,
) -> Result<(), RegistryError> {
    let Some(creator) = creator else {
        return Ok(());
    };
    let creator = unit
        .principal(creator)
        .await?
        // Who is suspended makes no keys, not even some that could do nothing yet.
        .filter(|creator| creator.disabled_at.is_none())
        .ok_or(RegistryError::OwnerNotFound)?;
    match scopes
        .as_slice()
        .iter()
        .find(|scope| !creator.permissions.covers(scope))
    {
        Some(scope) => Err(KeyError::ScopeExceedsCreator(scope.as_str().to_owned()).into()),
        None => Ok(()),
    }
}

/// Whoever asks hands out no more than they hold, whoever the key's creator is. What the key had
/// before is not handed out by them.
pub(crate) fn check_held(
    held: Option<&ScopeSet>,
    granted: &ScopeSet,
    before: &ScopeSet,
) -> Result<(), RegistryError> {
    let Some(held) = held else {
        return Ok(());
    };
    let mut scopes = granted.as_slice().iter();
    match scopes.find(|scope| !before.covers(scope) && !held.covers(scope)) {
        Some(scope) => Err(KeyError::ScopeExceedsCreator(scope.as_str().to_owned()).into()),
        None => Ok(()),
    }
}

/// Nobody is handed a secret of a management key that may do more than they hold.
pub(crate) fn check_secret_of(key: &ApiKey, held: &ScopeSet) -> Result<(), RegistryError> {
    if key.prefix.as_str() == keywright_domain::api_keys::format::ROOT_PREFIX {
        check_held(Some(held), &key.scopes, &ScopeSet::default())
    } else {
        Ok(())
    }
}

/// The policy in force for an environment.
pub(crate) async fn policy_of(
    unit: &mut Unit,
    environment: &keywright_domain::api_keys::Environment,
    allow_never: bool,
) -> Result<Policy, RegistryError> {
    let stored = unit.policy(environment).await?;
    Ok(stored.unwrap_or_else(|| Policy {
        never_expires_allowed: allow_never,
        ..Policy::default_for(environment.clone())
    }))
}

async fn change_key(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    change: &ApiKeyChange,
) -> Result<ApiKey, RegistryError> {
    let now = unit.now();
    let mut key = find(unit, id).await?;
    key.check_is_kept_here()?;
    if change.if_epoch.is_some_and(|epoch| epoch != key.epoch) {
        return Err(RegistryError::Changed);
    }
    if key.revoked_at.is_some() {
        return Err(KeyError::Revoked.into());
    }
    let before = key.clone();
    let mut details = Vec::new();
    if let Some(name) = &change.name {
        key.name = keywright_domain::api_keys::lifecycle::check_name(name)?;
        details.push(("name_before", before.name.clone()));
    }
    if let Some(scopes) = &change.scopes {
        let catalogue = unit.catalogue().await?;
        key.scopes = keywright_domain::api_keys::lifecycle::check_scopes(
            scopes,
            &key.prefix,
            key.settings.canary,
            &catalogue,
        )?;
        check_grant(unit, key.creator.as_deref(), &key.scopes).await?;
        check_held(change.held.as_ref(), &key.scopes, &before.scopes)?;
        details.push(("scopes_before", before.scopes.to_string()));
        details.push(("scopes", key.scopes.to_string()));
    }
    if let Some(settings) = &change.settings {
        settings.check().map_err(KeyError::from)?;
        if settings.canary != before.settings.canary
            || settings.one_time != before.settings.one_time
        {
            return Err(KeyError::Fixed.into());
        }
        key.settings = settings.clone();
        details.push(("settings", "changed".to_owned()));
    }
    let policy = policy_of(unit, &key.environment, true).await?;
    if change.scopes.is_some() {
        policy.check_scopes(&key.scopes).map_err(KeyError::from)?;
    }
    if change.settings.is_some() {
        policy.apply_rate_limit_floor(&mut key.settings);
        policy
            .check_settings(&key.settings)
            .map_err(KeyError::from)?;
    }
    key.epoch = unit.change(Subject::ApiKey(key.id.clone()));
    store::api_keys::update(unit.write(), &key, now).await?;
    if before.settings.credits != key.settings.credits {
        match &key.settings.credits {
            Some(plan) => store::credits::put(unit.write(), &key.id, plan.amount, now).await?,
            None => store::credits::remove(unit.write(), &key.id).await?,
        }
    }
    unit.audit(
        actor,
        about_key(AuditAction::ApiKeyChanged, &key, "changed", details),
    );
    Ok(key)
}

async fn end_key(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    reason: &str,
    end: End,
) -> Result<ApiKey, RegistryError> {
    end_key_for(unit, actor, id, reason, end, Vec::new()).await
}

/// The same, as part of something else: `more` is written down with it.
pub(crate) async fn end_key_for(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    reason: &str,
    end: End,
    more: Vec<(&'static str, String)>,
) -> Result<ApiKey, RegistryError> {
    let now = unit.now();
    let mut key = find(unit, id).await?;
    // Where its text was seen is worth knowing wherever the key is kept.
    if !matches!(end, End::Expose) {
        key.check_is_kept_here()?;
    }
    let changed = match end {
        End::Revoke => key.revoke(reason, now)?,
        End::Disable => key.disable(reason, now)?,
        End::Enable => key.enable()?,
        // What was noted of a secret says nothing of one that was made since.
        End::Expose => {
            let newest = key.secrets.iter().map(|one| one.created_at).max();
            let is_new = key.exposed_at.is_none_or(|at| newest > Some(at));
            if is_new {
                key.exposed_at = Some(now);
            }
            is_new
        }
    };
    if !changed {
        return Ok(key);
    }
    key.epoch = unit.change(Subject::ApiKey(key.id.clone()));
    if let End::Revoke = end {
        store::secrets::update_states(unit.write(), &key.secrets).await?;
        if let Some(mut rotation) = store::rotations::find_open(unit.read(), id).await? {
            rotation.supersede(now);
            store::rotations::update(unit.write(), &rotation).await?;
        }
    }
    store::api_keys::update(unit.write(), &key, now).await?;
    let (action, verb) = match end {
        End::Revoke => (AuditAction::ApiKeyRevoked, "revoked"),
        End::Disable => (AuditAction::ApiKeyDisabled, "disabled"),
        End::Enable => (AuditAction::ApiKeyEnabled, "enabled"),
        End::Expose => (AuditAction::ApiKeyExposed, "seen where no key belongs"),
    };
    let kept: String = reason.trim().chars().take(500).collect();
    let mut details = vec![("reason", kept)];
    details.extend(more);
    unit.audit(actor, about_key(action, &key, verb, details));
    Ok(key)
}

/// A key that must be there, revoked also where all keys of its owner were.
pub(crate) async fn find(unit: &mut Unit, id: &str) -> Result<ApiKey, RegistryError> {
    unit.key(id).await?.ok_or(RegistryError::KeyNotFound)
}

pub(crate) fn secret_details(secret: &Secret) -> Vec<(&'static str, String)> {
    let expires = secret
        .expires_at
        .map_or_else(|| "never".to_owned(), |at| at.to_string());
    vec![("kid", secret.kid.to_string()), ("expires_at", expires)]
}

pub(crate) fn about_key(
    action: AuditAction,
    key: &ApiKey,
    verb: &str,
    details: Vec<(&'static str, String)>,
) -> NewEvent {
    NewEvent {
        action,
        target_kind: "api_key",
        target_id: key.id.clone(),
        target_name: key.name.clone(),
        summary: format!("API key “{}” was {verb}", key.name),
        details,
    }
}
