//! Identity providers, and the identities of people there. Linking goes by (issuer, subject).

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::linking::{check_one_remains, check_provider_id};
use keywright_domain::people::{
    Email, LinkDecision, LinkFacts, LinkRefusal, PeopleError, RoleName, Sealed, person_name,
};

use super::users::{self, NewUser};
use super::{about, new_id, roles};
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// An identity provider, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityProvider {
    /// Part of addresses.
    pub id: String,
    /// `openid`, `github` …: how it is spoken to.
    pub kind: String,
    /// Shown to people.
    pub name: String,
    /// Byte for byte as configured.
    pub issuer: String,
    /// Our `client_id` there.
    pub client_id: String,
    /// What else its kind needs, as the caller writes it.
    pub settings: String,
    /// Whether its word that an e-mail address is verified is enough to link by it.
    pub trusts_email: bool,
    /// Unix ms.
    pub created_at: i64,
    /// When it was last changed.
    pub changed_at: i64,
    /// When it was disabled, if it is.
    pub disabled_at: Option<i64>,
}

/// What is said of a provider, whether it is new or changed.
#[derive(Clone, Debug)]
pub struct NewProvider {
    /// Part of addresses.
    pub id: String,
    /// How it is spoken to.
    pub kind: String,
    /// Shown to people.
    pub name: String,
    /// Byte for byte as configured.
    pub issuer: String,
    /// Our `client_id` there.
    pub client_id: String,
    /// Our secret there, sealed; none leaves the one before.
    pub sealed_secret: Option<Sealed>,
    /// What else its kind needs.
    pub settings: String,
    /// Whether its word on e-mail addresses is enough to link by it.
    pub trusts_email: bool,
    /// Whether people can sign in by it.
    pub enabled: bool,
}

/// An identity of a person at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkedIdentity {
    /// Stable id.
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// At which provider.
    pub provider_id: String,
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// E-mail address there, to tell several apart.
    pub email: Option<String>,
    /// Unix ms.
    pub created_at: i64,
    /// Latest sign-in.
    pub last_used_at: i64,
}

/// What a provider said of somebody, after the caller checked it.
#[derive(Clone, Debug)]
pub struct IdentityClaims {
    /// Which provider.
    pub provider_id: String,
    /// `iss`, or what stands for it.
    pub issuer: String,
    /// `sub`, or what stands for it.
    pub subject: String,
    /// Name, for a new user.
    pub name: String,
    /// E-mail address, if it is one.
    pub email: Option<Email>,
    /// Whether the provider verified it.
    pub email_verified: bool,
}

/// Who came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityOutcome {
    /// Somebody who is linked to the identity.
    SignedIn(String),
    /// Somebody who is linked to it from now on.
    Linked(String),
    /// Somebody who was not here before.
    Created(String),
    /// Somebody who is disabled.
    UserDisabled,
    /// Nobody yet.
    Refused(LinkRefusal),
}

impl LocalRegistry {
    /// Adds a provider, or says everything of it anew.
    ///
    /// # Errors
    /// [`PeopleError::ProviderId`], [`PeopleError::Name`]; [`PeopleError::ProviderTaken`] if its
    /// issuer changes: people are linked to that one.
    pub async fn put_identity_provider(
        &self,
        actor: &Actor,
        new: &NewProvider,
    ) -> Result<IdentityProvider, RegistryError> {
        check_provider_id(&new.id)?;
        let mut new = new.clone();
        new.name = person_name(&new.name)?;
        self.write((actor.clone(), new), |unit, (actor, new)| {
            Box::pin(put_provider(unit, actor, new))
        })
        .await
    }

    /// Disables a provider: nobody signs in by it, and what is linked stays.
    ///
    /// # Errors
    /// [`PeopleError::ProviderNotFound`].
    pub async fn disable_identity_provider(
        &self,
        actor: &Actor,
        id: &str,
    ) -> Result<IdentityProvider, RegistryError> {
        self.write((actor.clone(), id.to_owned()), |unit, (actor, id)| {
            Box::pin(async move {
                let before = store::people::providers::find(unit.read(), id)
                    .await?
                    .ok_or(PeopleError::ProviderNotFound)?;
                let new = NewProvider {
                    id: before.id,
                    kind: before.kind,
                    name: before.name,
                    issuer: before.issuer,
                    client_id: before.client_id,
                    sealed_secret: None,
                    settings: before.settings,
                    trusts_email: before.trusts_email,
                    enabled: false,
                };
                put_provider(unit, actor, &new).await
            })
        })
        .await
    }

    /// A provider that people can sign in by, and its sealed secret.
    ///
    /// # Errors
    /// [`PeopleError::ProviderNotFound`], for a disabled one too (AC-079).
    pub async fn find_identity_provider(
        &self,
        id: &str,
    ) -> Result<(IdentityProvider, Option<Sealed>), RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        let provider = store::people::providers::find(connection, id)
            .await?
            .filter(|provider| provider.disabled_at.is_none())
            .ok_or(PeopleError::ProviderNotFound)?;
        let secret = store::people::providers::find_secret(connection, id).await?;
        Ok((provider, secret))
    }

    /// All providers, by id: an installation has a handful.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_identity_providers(&self) -> Result<Vec<IdentityProvider>, RegistryError> {
        store::people::providers::list(&mut *self.shared.pool.acquire().await?).await
    }

    /// Finds, links or makes the user of an identity. New users have `sign_up_roles`; none if
    /// strangers cannot sign up.
    ///
    /// # Errors
    /// [`PeopleError::ProviderNotFound`]; [`PeopleError::RoleNotFound`]; whom it belongs to is an
    /// outcome.
    pub async fn accept_identity(
        &self,
        claims: &IdentityClaims,
        signed_in_as: Option<&str>,
        sign_up_roles: Option<&[RoleName]>,
    ) -> Result<IdentityOutcome, RegistryError> {
        let accept = Accept {
            claims: claims.clone(),
            signed_in_as: signed_in_as.map(str::to_owned),
            sign_up_roles: sign_up_roles.map(roles::unique),
            new_ids: (new_id(), new_id()),
        };
        self.write(accept, |unit, accept| {
            Box::pin(accept_identity(unit, accept))
        })
        .await
    }

    /// The identities of a user, oldest first, 100 at most.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be read.
    pub async fn list_identities(
        &self,
        user_id: &str,
    ) -> Result<Vec<LinkedIdentity>, RegistryError> {
        let connection = &mut *self.shared.pool.acquire().await?;
        store::people::providers::list_identities(connection, user_id).await
    }

    /// Removes an identity of a user.
    ///
    /// # Errors
    /// [`PeopleError::IdentityNotFound`], [`PeopleError::LastSignInMethod`].
    pub async fn unlink_identity(
        &self,
        actor: &Actor,
        user_id: &str,
        id: &str,
    ) -> Result<(), RegistryError> {
        let input = (actor.clone(), user_id.to_owned(), id.to_owned());
        self.write(input, |unit, (actor, user_id, id)| {
            Box::pin(async move {
                let own = store::people::providers::list_identities(unit.read(), user_id).await?;
                let identity = own
                    .into_iter()
                    .find(|one| one.id == *id)
                    .ok_or(PeopleError::IdentityNotFound)?;
                let (password, passkeys, identities) =
                    store::people::credentials::count_ways_in(unit.read(), user_id).await?;
                check_one_remains(password, passkeys, identities - 1)?;
                let user = users::find(unit, user_id).await?;
                store::people::providers::delete_identity(unit.write(), id).await?;
                let details = identity_details(&identity.issuer, &identity.subject);
                let verb = "left without a linked identity";
                let action = AuditAction::IdentityUnlinked;
                unit.audit(actor, users::about_user(action, &user, verb, details));
                Ok(())
            })
        })
        .await
    }
}

async fn put_provider(
    unit: &mut Unit,
    actor: &Actor,
    new: &NewProvider,
) -> Result<IdentityProvider, RegistryError> {
    let now = unit.now();
    let before = store::people::providers::find(unit.read(), &new.id).await?;
    if before
        .as_ref()
        .is_some_and(|before| before.issuer != new.issuer)
    {
        return Err(PeopleError::ProviderTaken.into());
    }
    let disabled_before = before.as_ref().and_then(|one| one.disabled_at);
    let provider = IdentityProvider {
        id: new.id.clone(),
        kind: new.kind.clone(),
        name: new.name.clone(),
        issuer: new.issuer.clone(),
        client_id: new.client_id.clone(),
        settings: new.settings.clone(),
        trusts_email: new.trusts_email,
        created_at: before.as_ref().map_or(now, |one| one.created_at),
        changed_at: now,
        disabled_at: if new.enabled {
            None
        } else {
            disabled_before.or(Some(now))
        },
    };
    let secret = new.sealed_secret.as_ref();
    store::people::providers::put(unit.write(), &provider, secret).await?;
    let (action, verb) = if before.is_some() {
        (AuditAction::ProviderChanged, "changed")
    } else {
        (AuditAction::ProviderAdded, "added")
    };
    let target = (
        "identity_provider",
        provider.id.as_str(),
        provider.name.as_str(),
    );
    let details = vec![
        ("issuer", provider.issuer.clone()),
        ("enabled", new.enabled.to_string()),
    ];
    let summary = format!("Identity provider “{}” was {verb}", provider.name);
    unit.audit(actor, about(action, target, summary, details));
    Ok(provider)
}

struct Accept {
    claims: IdentityClaims,
    signed_in_as: Option<String>,
    sign_up_roles: Option<Vec<RoleName>>,
    /// Of a user and of an identity, if they are needed.
    new_ids: (String, String),
}

async fn accept_identity(
    unit: &mut Unit,
    accept: &Accept,
) -> Result<IdentityOutcome, RegistryError> {
    let now = unit.now();
    let claims = &accept.claims;
    let provider = store::people::providers::find(unit.read(), &claims.provider_id)
        .await?
        .filter(|provider| provider.disabled_at.is_none())
        .ok_or(PeopleError::ProviderNotFound)?;
    let (issuer, subject) = (&claims.issuer, &claims.subject);
    let known = store::people::providers::find_identity(unit.read(), issuer, subject).await?;
    let same_email = match &claims.email {
        Some(email) => store::people::users::find_by_email(unit.read(), email).await?,
        None => None,
    };
    let email_owner_has_more = match &same_email {
        Some(user) => has_more(unit, &user.id).await?,
        None => false,
    };
    let facts = LinkFacts {
        linked_to: known.as_ref().map(|one| one.user_id.as_str()),
        signed_in_as: accept.signed_in_as.as_deref(),
        email_of: same_email
            .as_ref()
            .map(|user| (user.id.as_str(), user.email_verified)),
        email_owner_has_more,
        email_verified_there: claims.email_verified && provider.trusts_email,
        sign_up_allowed: accept.sign_up_roles.is_some(),
    };
    let email = claims.email.as_ref().map(Email::as_str);
    match facts.decide() {
        LinkDecision::Refuse(refusal) => Ok(IdentityOutcome::Refused(refusal)),
        LinkDecision::SignIn(user_id) => {
            let user = users::find(unit, &user_id).await?;
            if user.disabled_at.is_some() {
                return Ok(IdentityOutcome::UserDisabled);
            }
            if let Some(known) = known {
                let connection = unit.write();
                store::people::providers::update_identity_used(connection, &known.id, email, now)
                    .await?;
            }
            Ok(IdentityOutcome::SignedIn(user_id))
        }
        LinkDecision::Link(user_id) => {
            let user = users::find(unit, &user_id).await?;
            if user.disabled_at.is_some() {
                return Ok(IdentityOutcome::UserDisabled);
            }
            link(unit, accept, &user_id).await?;
            let details = identity_details(issuer, subject);
            let event = users::about_user(AuditAction::IdentityLinked, &user, "linked", details);
            unit.audit(&Actor::person(&user.id), event);
            Ok(IdentityOutcome::Linked(user_id))
        }
        LinkDecision::Create => {
            let new = NewUser {
                name: person_name(&claims.name).or_else(|_| person_name(&provider.name))?,
                email: claims.email.clone(),
                email_verified: claims.email_verified && provider.trusts_email,
                roles: accept.sign_up_roles.clone().unwrap_or_default(),
                password_hash: None,
            };
            let actor = Actor::person(&accept.new_ids.0);
            let user = users::insert(unit, &actor, &accept.new_ids.0, &new).await?;
            link(unit, accept, &user.id).await?;
            let details = identity_details(issuer, subject);
            let verb = "added by an identity provider";
            unit.audit(
                &actor,
                users::about_user(AuditAction::UserCreated, &user, verb, details),
            );
            Ok(IdentityOutcome::Created(user.id))
        }
    }
}

/// Whether somebody has a second factor or a passkey.
async fn has_more(unit: &mut Unit, user_id: &str) -> Result<bool, RegistryError> {
    let totp = store::people::credentials::find_totp(unit.read(), user_id).await?;
    let (_, passkeys, _) = store::people::credentials::count_ways_in(unit.read(), user_id).await?;
    Ok(passkeys > 0 || totp.is_some_and(|totp| totp.confirmed_at.is_some()))
}

async fn link(unit: &mut Unit, accept: &Accept, user_id: &str) -> Result<(), RegistryError> {
    let claims = &accept.claims;
    let now = unit.now();
    let identity = LinkedIdentity {
        id: accept.new_ids.1.clone(),
        user_id: user_id.to_owned(),
        provider_id: claims.provider_id.clone(),
        issuer: claims.issuer.clone(),
        subject: claims.subject.clone(),
        email: claims.email.as_ref().map(|email| email.as_str().to_owned()),
        created_at: now,
        last_used_at: now,
    };
    store::people::providers::insert_identity(unit.write(), &identity).await
}

fn identity_details(issuer: &str, subject: &str) -> Vec<(&'static str, String)> {
    vec![
        ("issuer", issuer.to_owned()),
        ("subject", subject.to_owned()),
    ]
}
