//! The device grant (RFC 8628): a device asks, a person decides elsewhere, the device gets its
//! tokens once.

use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::{
    Client, DeviceStatus, GrantRefusal, OAuthScopes, PeopleError, PollRule, RefreshLives, Session,
    TokenDigest, UserCode,
};

use super::grants::{self, Grant, GrantOrigin, GrantSignIn};
use super::{about, clients, foreign, new_id, users};
use crate::store::audit::NewEvent;
use crate::writer::Unit;
use crate::{LocalRegistry, RegistryError, store};

/// A device that asks for access, without its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRequest {
    /// What a person types.
    pub user_code: UserCode,
    /// Program on the device.
    pub client_id: String,
    /// What it asks for.
    pub scopes: OAuthScopes,
    /// For which resource.
    pub resource: Option<String>,
    /// What the device says it is.
    pub user_agent: String,
    /// Where it is.
    pub network: String,
    /// Least time between two polls (ms).
    pub interval_ms: i64,
    /// Unix ms.
    pub created_at: i64,
    /// Until when it can be decided.
    pub expires_at: i64,
    /// Latest poll.
    pub last_polled_at: Option<i64>,
    /// How far it is.
    pub status: DeviceStatus,
    /// Who decided.
    pub user_id: Option<String>,
    /// In which session.
    pub session_id: Option<String>,
    /// When.
    pub decided_at: Option<i64>,
}

/// A device's request that is to be remembered.
#[derive(Clone, Debug)]
pub struct NewDeviceRequest {
    /// Of the device code.
    pub digest: TokenDigest,
    /// Program on the device.
    pub client_id: String,
    /// What it asks for.
    pub scopes: OAuthScopes,
    /// For which resource.
    pub resource: Option<String>,
    /// What the device says it is.
    pub user_agent: String,
    /// Where it is.
    pub network: String,
    /// Least time between two polls (ms).
    pub interval_ms: i64,
    /// How long it can be decided (ms).
    pub lifetime_ms: i64,
}

/// Which resource a token request names (RFC 8707 §2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NamedResource {
    /// None: what was asked for in the beginning.
    #[default]
    Unnamed,
    /// The server's own API.
    Own,
    /// Another one.
    Other(String),
}

impl NamedResource {
    /// Whether that is what was asked for in the beginning; none for the server's own API.
    fn is_within(&self, asked: Option<&str>) -> bool {
        match self {
            Self::Unnamed => true,
            Self::Own => asked.is_none(),
            Self::Other(name) => asked == Some(name),
        }
    }
}

/// A device asks whether somebody decided.
#[derive(Clone, Debug)]
pub struct DevicePoll {
    /// Of the device code.
    pub digest: TokenDigest,
    /// Who asks.
    pub client_id: String,
    /// Which resource it names (RFC 8707 §2.2).
    pub resource: NamedResource,
    /// Thumbprint of the DPoP proof's key, if there is one.
    pub dpop_jkt: Option<String>,
    /// Of the refresh token that is given.
    pub refresh_token: TokenDigest,
    /// How long refresh tokens live.
    pub lives: RefreshLives,
}

/// What a device is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceGrant {
    /// The grant. Its sign-in is that of the session in which the device was let in, as it was at that
    /// moment; none if the person signed in again since, or the session is not kept any more.
    pub grant: Grant,
    /// Whether the refresh token that the request brought is good: where `offline_access` was granted and
    /// the client may refresh.
    pub offline: bool,
}

/// What a device is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceOutcome {
    /// `authorization_pending`.
    Pending,
    /// `slow_down`: wait this long from now on (ms).
    SlowDown(i64),
    /// `access_denied`.
    Denied,
    /// `expired_token`.
    Expired,
    /// `invalid_target`: it names a resource that was not asked for. Nothing changed.
    OtherResource,
    /// Tokens may be given.
    Redeemed(Box<DeviceGrant>),
    /// Nothing is given.
    Refused(GrantRefusal),
}

impl LocalRegistry {
    /// Remembers a device's request under a user code of its own.
    ///
    /// # Errors
    /// [`PeopleError::ClientNotFound`]; [`PeopleError::Client`] if it may not use device codes.
    pub async fn start_device(
        &self,
        new: &NewDeviceRequest,
    ) -> Result<DeviceRequest, RegistryError> {
        // One of several is free: there are 25 thousand million.
        let codes: Vec<_> = (0..8)
            .map(|_| UserCode::generate(&mut rand::rng()))
            .collect();
        self.write((new.clone(), codes), |unit, (new, codes)| {
            Box::pin(start(unit, new, codes))
        })
        .await
    }

    /// The request of a user code, as long as it can be decided.
    ///
    /// # Errors
    /// [`PeopleError::UserCode`].
    pub async fn find_device(&self, code: &UserCode) -> Result<DeviceRequest, RegistryError> {
        let now = self.now();
        let connection = &mut *self.shared.pool.acquire().await?;
        store::people::devices::find_by_user_code(connection, code)
            .await?
            .filter(|one| one.status == DeviceStatus::Pending && one.expires_at > now)
            .ok_or_else(|| PeopleError::UserCode.into())
    }

    /// A person lets a device in, or turns it away; once.
    ///
    /// # Errors
    /// [`PeopleError::UserCode`], [`PeopleError::UserDisabled`], [`PeopleError::UserNotFound`].
    pub async fn decide_device(
        &self,
        actor: &Actor,
        code: &UserCode,
        user_id: &str,
        session_id: Option<&str>,
        approve: bool,
    ) -> Result<(), RegistryError> {
        let session = session_id.map(str::to_owned);
        let input = (
            actor.clone(),
            code.clone(),
            user_id.to_owned(),
            session,
            approve,
        );
        self.write(input, |unit, (actor, code, user_id, session, approve)| {
            Box::pin(async move {
                let now = unit.now();
                users::find_enabled(unit, user_id).await?;
                let request = store::people::devices::find_by_user_code(unit.read(), code)
                    .await?
                    .filter(|one| one.status == DeviceStatus::Pending && one.expires_at > now)
                    .ok_or(PeopleError::UserCode)?;
                let (status, action, verb) = if *approve {
                    (
                        DeviceStatus::Approved,
                        AuditAction::DeviceApproved,
                        "let in",
                    )
                } else {
                    (
                        DeviceStatus::Denied,
                        AuditAction::DeviceDenied,
                        "turned away",
                    )
                };
                let (connection, session) = (unit.write(), session.as_deref());
                let decided =
                    store::people::devices::decide(connection, code, status, user_id, session, now);
                if !decided.await? {
                    return Err(PeopleError::UserCode.into());
                }
                unit.audit(actor, about_device(action, &request, verb));
                Ok(())
            })
        })
        .await
    }

    /// A device asks. While nobody decided, nothing but the moment is written and there is no event.
    ///
    /// # Errors
    /// [`RegistryError`] if nothing can be written; what is wrong with the code is an outcome.
    pub async fn poll_device(&self, poll: &DevicePoll) -> Result<DeviceOutcome, RegistryError> {
        self.write((new_id(), poll.clone()), |unit, (id, asked)| {
            Box::pin(poll_once(unit, id, asked))
        })
        .await
    }
}

async fn start(
    unit: &mut Unit,
    new: &NewDeviceRequest,
    codes: &[UserCode],
) -> Result<DeviceRequest, RegistryError> {
    let now = unit.now();
    let client = clients::find(unit, &new.client_id).await?;
    if !client.may_use("urn:ietf:params:oauth:grant-type:device_code") {
        return Err(PeopleError::Client("it may not use device codes").into());
    }
    let mut free = None;
    for code in codes {
        if store::people::devices::find_by_user_code(unit.read(), code)
            .await?
            .is_none()
        {
            free = Some(code.clone());
            break;
        }
    }
    let request = DeviceRequest {
        user_code: free.ok_or(PeopleError::UserCode)?,
        client_id: new.client_id.clone(),
        scopes: new.scopes.clone(),
        resource: new.resource.clone(),
        user_agent: foreign(&new.user_agent),
        network: foreign(&new.network),
        interval_ms: new.interval_ms,
        created_at: now,
        expires_at: now.saturating_add(new.lifetime_ms),
        last_polled_at: None,
        status: DeviceStatus::Pending,
        user_id: None,
        session_id: None,
        decided_at: None,
    };
    store::people::devices::insert(unit.write(), &new.digest, &request).await?;
    let actor = Actor::person(&new.client_id).at_text(&new.network);
    let event = about_device(AuditAction::DeviceRequested, &request, "asking for access");
    unit.audit(&actor, event);
    Ok(request)
}

async fn poll_once(
    unit: &mut Unit,
    grant_id: &str,
    poll: &DevicePoll,
) -> Result<DeviceOutcome, RegistryError> {
    let now = unit.now();
    let Some(request) = store::people::devices::find(unit.read(), &poll.digest).await? else {
        return Ok(DeviceOutcome::Refused(GrantRefusal::Unknown));
    };
    if request.client_id != poll.client_id {
        return Ok(DeviceOutcome::Refused(GrantRefusal::OtherClient));
    }
    if !poll.resource.is_within(request.resource.as_deref()) {
        return Ok(DeviceOutcome::OtherResource);
    }
    if request.expires_at <= now {
        return Ok(DeviceOutcome::Expired);
    }
    let client = clients::find(unit, &poll.client_id).await?;
    if client.disabled_at.is_some() {
        return Ok(DeviceOutcome::Refused(GrantRefusal::ClientDisabled));
    }
    match request.status {
        DeviceStatus::Pending => {
            let rule = PollRule {
                interval_ms: request.interval_ms,
                last_polled_at: request.last_polled_at,
            };
            let slower = rule.slower(now);
            let interval = slower.unwrap_or(request.interval_ms);
            store::people::devices::update_poll(unit.write(), &poll.digest, interval, now).await?;
            Ok(slower.map_or(DeviceOutcome::Pending, DeviceOutcome::SlowDown))
        }
        DeviceStatus::Denied => Ok(DeviceOutcome::Denied),
        DeviceStatus::Used => Ok(DeviceOutcome::Refused(GrantRefusal::Unknown)),
        DeviceStatus::Approved => redeem(unit, grant_id, poll, request, &client).await,
    }
}

async fn redeem(
    unit: &mut Unit,
    grant_id: &str,
    poll: &DevicePoll,
    request: DeviceRequest,
    client: &Client,
) -> Result<DeviceOutcome, RegistryError> {
    let now = unit.now();
    let user = match &request.user_id {
        Some(id) => store::people::users::find(unit.read(), id).await?,
        None => None,
    };
    let Some(user) = user.filter(|user| user.disabled_at.is_none()) else {
        return Ok(DeviceOutcome::Refused(GrantRefusal::UserDisabled));
    };
    // A new password ends what was let in before it, also what waits to be fetched (AC-117).
    let decided_at = request.decided_at.unwrap_or(request.created_at);
    let session = match &request.session_id {
        Some(id) => store::people::sessions::find(unit.read(), id).await?,
        None => None,
    };
    if user.password_changed_at.is_some_and(|at| at > decided_at)
        || was_taken_back(session.as_ref())
    {
        return Ok(DeviceOutcome::Refused(GrantRefusal::Revoked));
    }
    // The one statement that decides who is first.
    if !store::people::devices::consume(unit.write(), &poll.digest).await? {
        return Ok(DeviceOutcome::Refused(GrantRefusal::Unknown));
    }
    let let_in = session.filter(|session| session.authenticated_at <= decided_at);
    let grant = Grant {
        id: grant_id.to_owned(),
        user_id: user.id,
        client_id: request.client_id,
        // It is another program on another machine: it outlives the browser that let it in.
        session_id: None,
        origin: GrantOrigin::Device,
        scopes: request.scopes,
        resource: request.resource,
        dpop_jkt: grants::bound_to(Some(client), poll.dpop_jkt.as_deref()),
        user_agent: request.user_agent,
        network: request.network,
        sign_in: let_in.as_ref().map(GrantSignIn::of),
        created_at: now,
        last_used_at: now,
        expires_at: now.saturating_add(poll.lives.absolute_ms),
        revoked_at: None,
        revoked_by: None,
        revoke_reason: None,
    };
    let offline = grant.scopes.contains("offline_access") && client.may_use("refresh_token");
    let refresh = Some(&poll.refresh_token).filter(|_| offline);
    grants::begin(unit, &grant, refresh, poll.lives).await?;
    let actor = Actor::person(&grant.client_id).at_text(&grant.network);
    unit.audit(
        &actor,
        grants::about_grant(AuditAction::DeviceRedeemed, &grant, "given to a device"),
    );
    Ok(DeviceOutcome::Redeemed(Box::new(DeviceGrant {
        grant,
        offline,
    })))
}

/// Whether the session in which a device was let in was ended for safety since. One that is over, or
/// that its person signed out of, takes nothing back.
fn was_taken_back(session: Option<&Session>) -> bool {
    let reason = session.and_then(|session| session.end_reason);
    reason.is_some_and(|reason| !reason.leaves_offline_access())
}

fn about_device(action: AuditAction, request: &DeviceRequest, verb: &str) -> NewEvent {
    let client = &request.client_id;
    let details = vec![
        ("scopes", request.scopes.to_string()),
        ("network", request.network.clone()),
    ];
    let summary = format!("A device with client {client} was {verb}");
    about(action, ("client", client, client), summary, details)
}
