//! The two ends of a move: the other registry takes the keys of a bundle, and this one leaves them
//! to it. In between both verify the same key strings.

use keywright_domain::api_keys::lifecycle::{check_name, check_scopes};
use keywright_domain::api_keys::{
    ApiKey, Environment, ForeignAlgorithm, KeySettings, Kid, Metadata, NetworkList, Note,
    OriginList, OverlapClock, Owner, Prefix, RateLimits, Rotation, RotationState, Secret, Tags,
    redact,
};
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::scopes::ScopeSet;

use super::escrow::moved_pepper_id;
use super::promotion_bundle::{
    BundledKey, BundledSecret, PromotionBundle, PromotionError, PromotionRefused,
};
use crate::api_keys::{about_key, check_grant, check_held, find, policy_of};
use crate::peppers::Peppers;
use crate::store::{
    self,
    api_keys::Extent,
    secrets::{OURS, SecretInsert, StoredMac, state_from_text},
};
use crate::writer::{Subject, Unit};
use crate::{LocalRegistry, RegistryError};

/// Keys of one transaction.
const CHUNK: usize = 50;
/// So far may the clock of the registry that a key comes from be ahead of ours.
const SKEW_MS: i64 = 60_000;

/// How the keys of a bundle are taken.
#[derive(Clone, Debug, Default)]
pub struct AcceptOptions {
    /// Judge everything, write nothing.
    pub dry_run: bool,
    /// Who they belong to here; none: the owner that the bundle names, who must be known here.
    pub owner: Option<Owner>,
    /// The principal that takes them and whose permissions bound them from now on; none where it is
    /// a program, as for keys that it issues. Whom the bundle names is not believed: it would let its
    /// sender act in the name of anybody here.
    pub creator: Option<String>,
    /// What whoever asks holds: no key may do more. None for no bound.
    pub held: Option<ScopeSet>,
    /// Whether keys without an end are taken where no policy says anything about it.
    pub allow_never_expires: bool,
}

/// What came of a bundle.
#[derive(Clone, Debug, Default)]
pub struct AcceptReport {
    /// Ids of keys that are here now, or would be.
    pub accepted: Vec<String>,
    /// Ids of keys that came earlier: nothing was done.
    pub present: Vec<String>,
    /// Not taken.
    pub refused: Vec<PromotionRefused>,
}

/// A key that is ready to be judged.
struct Arriving {
    key: ApiKey,
    macs: Vec<StoredMac>,
    rotation: Option<Rotation>,
}

enum Fate {
    Accepted,
    Present,
    Refused(&'static str, String),
}

impl LocalRegistry {
    /// Takes the keys of a bundle. `peppers` are this registry's own with the ones that came with
    /// the bundle as older ones ([`crate::open_transfer`]): the first use of each key stores it under the
    /// registry's own. This registry's policies decide; what they forbid is told by key. A second
    /// time changes nothing.
    ///
    /// # Errors
    /// [`PromotionError::Altered`]; [`RegistryError::PepperMissing`] if a pepper did not come, or
    /// this registry has none of its own yet.
    pub async fn accept_promotion(
        &self,
        actor: &Actor,
        bundle: &PromotionBundle,
        peppers: &Peppers,
        options: &AcceptOptions,
    ) -> Result<AcceptReport, PromotionError> {
        bundle.check(peppers)?;
        if self.registry_id().await? == bundle.registry_id() {
            return Err(PromotionError::OwnBundle);
        }
        if self.pepper_id().await?.is_none() {
            return Err(RegistryError::PepperMissing.into());
        }
        let mut report = AcceptReport::default();
        let mut arriving = Vec::with_capacity(bundle.body.keys.len());
        for key in &bundle.body.keys {
            match read(key, bundle.registry_id(), options) {
                Some(key) => arriving.push(key),
                None => report.refused.push(PromotionRefused::new(
                    &key.id,
                    "key_malformed",
                    "a field of this key has a value that no registry writes",
                )),
            }
        }
        let mut arriving = arriving.into_iter().peekable();
        while arriving.peek().is_some() {
            let chunk: Vec<_> = arriving.by_ref().take(CHUNK).collect();
            let ids: Vec<_> = chunk.iter().map(|one| one.key.id.clone()).collect();
            let input = (
                actor.clone(),
                chunk,
                options.clone(),
                bundle.registry_id().to_owned(),
            );
            let fates = self
                .write(input, |unit, (actor, chunk, options, origin)| {
                    Box::pin(accept(unit, actor, chunk, options, origin))
                })
                .await?;
            for (id, fate) in ids.into_iter().zip(fates) {
                match fate {
                    Fate::Accepted => report.accepted.push(id),
                    Fate::Present => report.present.push(id),
                    Fate::Refused(code, message) => report
                        .refused
                        .push(PromotionRefused::new(&id, code, &message)),
                }
            }
        }
        Ok(report)
    }

    /// Leaves keys to the registry that has taken them: from now on they are changed, rotated and
    /// revoked there and not here ([`keywright_domain::api_keys::KeyError::Promoted`]). Here they
    /// go on verifying until their copies are ended by [`Self::end_promoted_copy`]. Returns what
    /// was refused; marking again changes nothing.
    ///
    /// # Errors
    /// [`PromotionError::RemoteName`]; [`RegistryError`] if nothing can be written.
    pub async fn mark_promoted(
        &self,
        actor: &Actor,
        key_ids: &[String],
        remote: &str,
    ) -> Result<Vec<PromotionRefused>, PromotionError> {
        let remote = remote.trim();
        let length = remote.chars().count();
        if length == 0 || length > 200 || remote.chars().any(char::is_control) {
            return Err(PromotionError::RemoteName);
        }
        let mut refused = Vec::new();
        for id in key_ids {
            let input = (actor.clone(), id.clone(), remote.to_owned());
            let marked = self
                .write(input, |unit, (actor, id, remote)| {
                    Box::pin(mark(unit, actor, id, remote))
                })
                .await;
            match marked {
                Ok(()) => {}
                Err(error) if error.is_of_the_database() => return Err(error.into()),
                Err(error) => {
                    refused.push(PromotionRefused::new(id, error.code(), &error.to_string()))
                }
            }
        }
        Ok(refused)
    }

    /// Ends the copy of a key that was left to another registry: it does not verify here any more.
    /// There nothing changes; a leaked key is to be revoked there as well.
    ///
    /// # Errors
    /// [`RegistryError::KeyNotFound`], also for a key that is kept here: that one is revoked.
    pub async fn end_promoted_copy(
        &self,
        actor: &Actor,
        key_id: &str,
        reason: &str,
    ) -> Result<ApiKey, RegistryError> {
        let input = (actor.clone(), key_id.to_owned(), reason.to_owned());
        self.write(input, |unit, (actor, id, reason)| {
            Box::pin(end_copy(unit, actor, id, reason))
        })
        .await
    }
}

/// Reads a key as a stranger sent it; none if anything in it is no value of ours.
fn read(from: &BundledKey, origin: &str, options: &AcceptOptions) -> Option<Arriving> {
    let is_id = from.id.len() == 20 && from.id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_count = (1..=2).contains(&from.secrets.len());
    let reason_is_short = |reason: &Option<String>| {
        reason
            .as_ref()
            .is_none_or(|reason| reason.chars().count() <= 500 && !reason.contains('\0'))
    };
    if !is_id || !is_count || !reason_is_short(&from.disabled_reason) {
        return None;
    }
    let mut secrets = Vec::with_capacity(from.secrets.len());
    let mut macs = Vec::with_capacity(from.secrets.len());
    for secret in &from.secrets {
        let (secret, mac) = read_secret(secret, origin)?;
        secrets.push(secret);
        macs.push(mac);
    }
    let settings = KeySettings {
        limits: RateLimits::parse(&from.limits).ok()?,
        networks: NetworkList::parse(&from.networks).ok()?,
        origins: OriginList::parse(&from.origins).ok()?,
        tags: Tags::parse(&from.tags).ok()?,
        note: Note::new(&from.note).ok()?,
        metadata: Metadata::parse(&from.metadata).ok()?,
        one_time: false,
        canary: from.canary,
        credits: None,
    };
    let rotation = match &from.rotation {
        None => None,
        Some(one) => {
            let rotation = Rotation {
                id: one.id.clone(),
                key_id: from.id.clone(),
                old: one.old.as_deref().map(Kid::new).transpose().ok()?,
                new: Kid::new(&one.new).ok()?,
                overlap_ms: one.overlap_ms,
                clock: OverlapClock::parse(&one.clock).ok()?,
                state: RotationState::parse(&one.state).filter(|state| state.is_open())?,
                requested_by: one.requested_by.clone(),
                reason: one.reason.clone(),
                created_at: one.created_at,
                activated_at: one.activated_at,
                ended_at: None,
                ended_by: None,
            };
            let mut kids = std::iter::once(&rotation.new).chain(&rotation.old);
            let are_here = kids.all(|kid| secrets.iter().any(|secret| secret.kid == *kid));
            let is_short = rotation.id.len() <= 200 && reason_is_short(&rotation.reason);
            Some(Some(rotation).filter(|_| are_here && is_short)?)
        }
    };
    let key = ApiKey {
        id: from.id.clone(),
        name: check_name(&from.name).ok()?,
        prefix: Prefix::new(&from.prefix).ok()?,
        environment: Environment::new(&from.environment).ok()?,
        owner: match &options.owner {
            Some(owner) => owner.clone(),
            None => Owner::parse(&from.owner).ok()?,
        },
        creator: options.creator.clone(),
        scopes: ScopeSet::parse(&from.scopes).ok()?,
        settings,
        epoch: 0,
        created_at: from.created_at,
        not_before: from.not_before,
        disabled_at: from.disabled_at,
        disabled_reason: from.disabled_reason.clone(),
        exposed_at: from.exposed_at,
        revoked_at: None,
        revoked_reason: None,
        revoked_with_owner: false,
        promoted_to: None,
        secrets,
    };
    Some(Arriving {
        key,
        macs,
        rotation,
    })
}

fn read_secret(from: &BundledSecret, origin: &str) -> Option<(Secret, StoredMac)> {
    let algorithm = match ForeignAlgorithm::parse(&from.algorithm) {
        Some(foreign) => foreign.as_str(),
        None if from.algorithm == OURS => OURS,
        None => return None,
    };
    let secret = Secret {
        kid: Kid::new(&from.kid).ok()?,
        last_four: Some(&from.last_four)
            .filter(|text| text.chars().count() == 4)?
            .clone(),
        stored: state_from_text(&from.state)
            .ok()
            .filter(|state| state.verifies())?,
        created_at: from.created_at,
        expires_at: from.expires_at,
        retires_at: from.retires_at,
        pending_until: from.pending_until,
        activated_at: from.activated_at,
        ended_at: None,
        ended_reason: None,
        first_used_at: from.first_used_at,
        last_used_at: from.last_used_at,
        use_count: from.use_count.max(0),
    };
    let mac = StoredMac {
        mac: from.value.0.clone(),
        algorithm,
        pepper_id: moved_pepper_id(origin, &from.pepper_id),
    };
    Some((secret, mac))
}

async fn accept(
    unit: &mut Unit,
    actor: &Actor,
    chunk: &[Arriving],
    options: &AcceptOptions,
    origin: &str,
) -> Result<Vec<Fate>, RegistryError> {
    let mut fates = Vec::with_capacity(chunk.len());
    let mut taken = Vec::new();
    let mut seen = std::collections::HashSet::new();
    // Everything is judged before anything is written.
    for arriving in chunk {
        let mut key = arriving.key.clone();
        let fresh = std::iter::once(key.id.as_str())
            .chain(key.secrets.iter().map(|secret| secret.kid.as_str()))
            .all(|id| seen.insert(id.to_owned()));
        let judged = if fresh {
            judge(unit, &mut key, arriving, options).await
        } else {
            let message = "an id or kid stands in the bundle twice".to_owned();
            Ok(Some(Fate::Refused("key_malformed", message)))
        };
        match judged {
            Ok(Some(fate)) => fates.push(fate),
            Ok(None) => {
                fates.push(Fate::Accepted);
                taken.push((key, arriving));
            }
            Err(error) if error.is_of_the_database() => return Err(error),
            Err(error) => {
                let message = redact(&error.to_string()).into_owned();
                fates.push(Fate::Refused(error.code(), message));
            }
        }
    }
    if options.dry_run {
        return Ok(fates);
    }
    for (key, arriving) in taken {
        insert(unit, actor, key, arriving, origin).await?;
    }
    Ok(fates)
}

/// None if the key may come in.
async fn judge(
    unit: &mut Unit,
    key: &mut ApiKey,
    arriving: &Arriving,
    options: &AcceptOptions,
) -> Result<Option<Fate>, RegistryError> {
    let refuse = |code, message: &str| Ok(Some(Fate::Refused(code, message.to_owned())));
    let now = unit.now();
    let mut known = 0;
    for secret in &key.secrets {
        match store::secrets::find_key_id(unit.read(), secret.kid.as_str()).await? {
            Some(id) if id == key.id => known += 1,
            Some(_) => return refuse("kid_taken", "another key here has a secret of this kid"),
            None => {}
        }
    }
    if store::api_keys::find_prefix(unit.read(), &key.id)
        .await?
        .is_some()
    {
        if known == key.secrets.len() {
            return Ok(Some(Fate::Present));
        }
        return refuse("key_exists", "another key here has this id");
    }
    for mac in arriving.macs.iter().filter(|mac| mac.algorithm != OURS) {
        if store::images::of_foreign_mac(unit.read(), &mac.mac)
            .await?
            .is_some()
        {
            return refuse("hash_taken", "the same foreign key is here already");
        }
    }
    if key.prefix.as_str() == keywright_domain::api_keys::format::ROOT_PREFIX {
        return refuse(
            "prefix_reserved",
            "a management key belongs to its registry",
        );
    }
    if let Some(rotation) = &arriving.rotation
        && store::rotations::find(unit.read(), &rotation.id)
            .await?
            .is_some()
    {
        return refuse("rotation_already_done", "its rotation's id is used here");
    }
    // A time that is still to come would make any lifetime a short one, and whoever revokes all keys of
    // an owner would do so up to that time. What a clock a little ahead says is now.
    let made = key.secrets.iter().map(|secret| secret.created_at);
    if made.chain([key.created_at]).max() > Some(now.saturating_add(SKEW_MS)) {
        return refuse(
            "created_in_future",
            "it says that it was made at a time that is still to come",
        );
    }
    key.created_at = key.created_at.min(now);
    for secret in &mut key.secrets {
        secret.created_at = secret.created_at.min(now);
    }
    let mut secrets = key.secrets.iter();
    if !secrets.any(|secret| secret.state(now).verifies()) {
        return refuse("key_expired", "no secret of the key works any more");
    }
    let catalogue = unit.catalogue().await?;
    let texts: Vec<_> = key
        .scopes
        .as_slice()
        .iter()
        .map(|scope| scope.as_str().to_owned())
        .collect();
    key.scopes = check_scopes(&texts, &key.prefix, key.settings.canary, &catalogue)?;
    let policy = policy_of(unit, &key.environment, options.allow_never_expires).await?;
    for secret in &key.secrets {
        policy
            .check_issue(&key.prefix, &key.scopes, secret.lifetime_ms())
            .map_err(keywright_domain::api_keys::KeyError::from)?;
    }
    policy.apply_rate_limit_floor(&mut key.settings);
    key.settings
        .check()
        .map_err(keywright_domain::api_keys::KeyError::from)?;
    policy
        .check_settings(&key.settings)
        .map_err(keywright_domain::api_keys::KeyError::from)?;
    let owner = unit
        .principal(&key.owner.id)
        .await?
        .filter(|owner| owner.disabled_at.is_none() && owner.kind == key.owner.kind)
        .ok_or(RegistryError::OwnerNotFound)?;
    // It comes after all keys of its owner here were revoked, and is not one of them.
    if let Some(revoked) = owner.keys_revoked_at {
        key.created_at = key.created_at.max(revoked.saturating_add(1));
    }
    check_grant(unit, key.creator.as_deref(), &key.scopes).await?;
    check_held(options.held.as_ref(), &key.scopes, &ScopeSet::default())?;
    Ok(None)
}

async fn insert(
    unit: &mut Unit,
    actor: &Actor,
    mut key: ApiKey,
    arriving: &Arriving,
    origin: &str,
) -> Result<(), RegistryError> {
    for mac in &arriving.macs {
        store::portable::insert_oldest_pepper(unit.write(), &mac.pepper_id).await?;
    }
    key.epoch = unit.change(Subject::ApiKey(key.id.clone()));
    let last = key.secrets.len() - 1;
    for (index, (secret, mac)) in key.secrets.iter().zip(&arriving.macs).enumerate() {
        let insert = SecretInsert {
            key_id: key.id.clone(),
            position: index as i64,
            secret: secret.clone(),
            stored: mac.clone(),
        };
        // It refers to both secrets.
        let rotation = arriving.rotation.clone().filter(|_| index == last);
        unit.put(
            &key,
            Extent::Whole,
            Some(insert),
            Vec::new(),
            rotation.into_iter().collect(),
        )
        .await?;
    }
    let kids: Vec<_> = key
        .secrets
        .iter()
        .map(|secret| secret.kid.as_str())
        .collect();
    let details = vec![
        ("from", origin.to_owned()),
        ("kids", kids.join(" ")),
        ("scopes", key.scopes.to_string()),
        ("owner", key.owner.id.clone()),
    ];
    unit.audit(
        actor,
        about_key(
            AuditAction::PromotionAccepted,
            &key,
            "taken over from another registry",
            details,
        ),
    );
    Ok(())
}

async fn mark(unit: &mut Unit, actor: &Actor, id: &str, remote: &str) -> Result<(), RegistryError> {
    let mut key = find(unit, id).await?;
    if key.promoted_to.as_deref() == Some(remote) {
        return Ok(());
    }
    key.check_is_kept_here()?;
    if key.revoked_at.is_some() {
        return Err(keywright_domain::api_keys::KeyError::Revoked.into());
    }
    key.promoted_to = Some(remote.to_owned());
    key.epoch = unit.change(Subject::ApiKey(key.id.clone()));
    unit.put(&key, Extent::Whole, None, Vec::new(), Vec::new())
        .await?;
    let details = vec![("remote", remote.to_owned())];
    unit.audit(
        actor,
        about_key(
            AuditAction::ApiKeyPromoted,
            &key,
            "left to another registry",
            details,
        ),
    );
    Ok(())
}

/// Ends the copy of a key that was left to another registry.
pub(crate) async fn end_copy(
    unit: &mut Unit,
    actor: &Actor,
    id: &str,
    reason: &str,
) -> Result<ApiKey, RegistryError> {
    let now = unit.now();
    let mut key = find(unit, id).await?;
    let remote = key.promoted_to.clone().ok_or(RegistryError::KeyNotFound)?;
    if !key.revoke(reason, now)? {
        return Ok(key);
    }
    key.epoch = unit.change(Subject::ApiKey(key.id.clone()));
    let rotation = store::rotations::find_open(unit.read(), id).await?;
    let rotation = rotation.map(|mut rotation| {
        rotation.supersede(now);
        rotation
    });
    let secrets = key.secrets.clone();
    unit.put(
        &key,
        Extent::Whole,
        None,
        secrets,
        rotation.into_iter().collect(),
    )
    .await?;
    let details = vec![("reason", reason.trim().to_owned()), ("remote", remote)];
    unit.audit(
        actor,
        about_key(
            AuditAction::ApiKeyRevoked,
            &key,
            "ended here; it lives on where it was moved to",
            details,
        ),
    );
    Ok(key)
}
