//! The first set-up of an empty registry: its pepper, the first owner, the desktop's client, and one
//! root key.

use keywright_domain::SecretText;
use keywright_domain::api_keys::lifecycle::NewApiKey;
use keywright_domain::audit::Actor;
use keywright_domain::people::{
    AuthMethod, ClientType, Email, NewClient, OAuthScopes, PeopleError, RoleName,
};
use keywright_registry::people::{NewUser, UserQuery};
use keywright_registry::{LocalRegistry, RegistryError};

use crate::secrets::{SecretsError, ServerSecrets};

/// `client_id` of the desktop app.
pub const DESKTOP_CLIENT: &str = "keywright-desktop";

/// `client_id` of pages that sign people in by `POST /auth/login`.
pub const BROWSER_CLIENT: &str = "keywright-browser";

/// What the desktop app may ask for.
const DESKTOP_SCOPES: &str = "openid profile email offline_access account keys:* scopes:read \
     policies:read audit:read users:read sessions:read";

/// What pages that sign people in themselves may do. `/auth/login` asks for all of it.
const BROWSER_SCOPES: &str =
    "account keys:* scopes:read policies:read audit:read users:read sessions:read";

/// The first owner.
#[derive(Debug)]
pub struct FirstOwner {
    /// E-mail address.
    pub email: String,
    /// Name.
    pub name: String,
    /// Hash of the password.
    pub password_hash: SecretText,
}

/// Why the set-up failed.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// Somebody is there already.
    #[error("this registry has people already: it is set up")]
    AlreadyDone,
    /// The registry refused something.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A secret could not be kept.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

impl From<PeopleError> for SetUpError {
    fn from(error: PeopleError) -> Self {
        Self::Registry(error.into())
    }
}

/// Whether nobody set this registry up yet.
///
/// # Errors
/// [`RegistryError`] if it cannot be read.
pub async fn is_empty(registry: &LocalRegistry) -> Result<bool, RegistryError> {
    let query = UserQuery {
        limit: 1,
        ..UserQuery::default()
    };
    Ok(registry.list_users(&query).await?.items.is_empty())
}

/// Sets an empty registry up. Returns the root key, which is stored nowhere. What an earlier try had
/// done already is done once only.
///
/// # Errors
/// [`SetUpError`].
pub async fn set_up(
    registry: &LocalRegistry,
    secrets: &ServerSecrets,
    owner: &FirstOwner,
) -> Result<SecretText, SetUpError> {
    if !is_empty(registry).await? {
        return Err(SetUpError::AlreadyDone);
    }
    let email = Email::new(&owner.email)?;
    let actor = Actor::keywright();
    let ids = [prepare(registry, secrets).await?];
    let peppers = secrets.peppers(&ids)?.ok_or(RegistryError::PepperMissing)?;
    add_client(registry, DESKTOP_CLIENT, &desktop()?).await?;
    add_client(registry, BROWSER_CLIENT, &browser()?).await?;
    let root = registry
        .issue_api_key(&actor, &root_key(), &peppers)
        .await?;
    // Last, since it is what says that the set-up is done.
    let new = NewUser {
        name: owner.name.clone(),
        email: Some(email),
        email_verified: true,
        roles: vec![RoleName::new(keywright_domain::people::OWNER)?],
        password_hash: Some(owner.password_hash.clone()),
    };
    registry.create_user(&actor, &new).await?;
    Ok(root.plain.text().clone())
}

/// Adds what later versions need to a registry that an earlier one set up. What is there stays as it
/// is, so doing it again does nothing.
pub(crate) async fn complete(registry: &LocalRegistry) -> Result<(), RegistryError> {
    if is_empty(registry).await? {
        return Ok(());
    }
    match registry.find_client(BROWSER_CLIENT).await {
        Ok(_) => Ok(()),
        Err(RegistryError::People(PeopleError::ClientNotFound)) => {
            add_client(registry, BROWSER_CLIENT, &browser()?).await
        }
        Err(error) => Err(error),
    }
}

/// Adds a client unless it is there: another process may have been faster.
async fn add_client(
    registry: &LocalRegistry,
    id: &str,
    client: &NewClient,
) -> Result<(), RegistryError> {
    let actor = Actor::keywright();
    match registry.add_client(&actor, id, client, None).await {
        Ok(_) | Err(RegistryError::People(PeopleError::ClientIdTaken)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives a registry its pepper, unless it has one. A server that is built afterwards has it, and need
/// not be started again once somebody has set it up. Returns the pepper's id.
///
/// # Errors
/// [`SetUpError`].
pub async fn prepare(
    registry: &LocalRegistry,
    secrets: &ServerSecrets,
) -> Result<String, SetUpError> {
    if let Some(id) = registry.pepper_id().await? {
        return Ok(id);
    }
    let made = secrets.new_pepper()?;
    let actor = Actor::keywright();
    Ok(registry.adopt_pepper(&actor, &made).await?)
}

fn desktop() -> Result<NewClient, PeopleError> {
    Ok(NewClient {
        name: "Keywright desktop".into(),
        client_type: ClientType::Public,
        auth_method: AuthMethod::None,
        jwks: None,
        redirect_uris: vec![
            "http://127.0.0.1/callback".into(),
            "http://[::1]/callback".into(),
        ],
        post_logout_redirect_uris: Vec::new(),
        backchannel_logout_uri: None,
        grant_types: vec![
            "authorization_code".into(),
            "refresh_token".into(),
            "urn:ietf:params:oauth:grant-type:device_code".into(),
        ],
        scopes: OAuthScopes::parse(DESKTOP_SCOPES).ok_or(PeopleError::Client("scopes"))?,
        signing_alg: "RS256".into(),
        require_pkce: true,
        require_dpop: false,
        fapi: false,
    })
}

/// It has no addresses: it can get nothing at the authorization endpoint.
fn browser() -> Result<NewClient, PeopleError> {
    Ok(NewClient {
        name: "Keywright in the browser".into(),
        // Nobody but this server reads its tokens, and RS256 takes twenty times as long.
        signing_alg: "EdDSA".into(),
        redirect_uris: Vec::new(),
        grant_types: vec!["refresh_token".into()],
        scopes: OAuthScopes::parse(BROWSER_SCOPES).ok_or(PeopleError::Client("scopes"))?,
        ..desktop()?
    })
}

fn root_key() -> NewApiKey {
    NewApiKey {
        name: "Root key of the set-up".into(),
        prefix: "kw_root".into(),
        scopes: vec!["*:*".into()],
        lifetime_ms: None,
        allow_never_expires: true,
        environment: None,
        owner: None,
        creator: None,
        not_before: None,
        settings: keywright_domain::api_keys::KeySettings::default(),
        management: true,
    }
}
