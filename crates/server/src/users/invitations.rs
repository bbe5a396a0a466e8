//! `/api/v1/invitations`: a link that is good once, shown once.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::people::{Email, PeopleError, RoleName, TokenDigest};
use keywright_domain::pkce::random_token;
use keywright_registry::RegistryError;
use keywright_registry::people::{Invitation, NewInvitation};
use serde::{Deserialize, Serialize};

use super::{READ, WRITE, permissions_of, require_holds, role_names};
use crate::keys::manager::Manager;
use crate::notices::people::send_invitation;
use crate::once::{Done, Once, done, gone, replayed};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::api::{Body, PageAsked, private};
use crate::sessions::require;

const HOUR_MS: i64 = 60 * 60 * 1000;
const USUAL_HOURS: i64 = 72;
const LONGEST_HOURS: i64 = 30 * 24;

/// An invitation. Times are Unix milliseconds.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct InvitationView {
    /// Stable id.
    id: String,
    /// Who is invited.
    email: String,
    /// What they will be.
    roles: Vec<String>,
    /// Who invited them.
    invited_by: String,
    /// When.
    created_at: i64,
    /// Until when it can be accepted.
    expires_at: i64,
    /// When it was.
    accepted_at: Option<i64>,
    /// Whom it became.
    accepted_by: Option<String>,
    /// When it was taken back.
    withdrawn_at: Option<i64>,
}

impl From<Invitation> for InvitationView {
    fn from(one: Invitation) -> Self {
        Self {
            id: one.id,
            email: one.email.to_string(),
            roles: one.roles.iter().map(RoleName::to_string).collect(),
            invited_by: one.invited_by,
            created_at: one.created_at,
            expires_at: one.expires_at,
            accepted_at: one.accepted_at,
            accepted_by: one.accepted_by,
            withdrawn_at: one.withdrawn_at,
        }
    }
}

/// One page of invitations, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct InvitationList {
    items: Vec<InvitationView>,
    next_cursor: Option<String>,
}

/// Who is to be invited.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InvitationToMake {
    /// E-mail address.
    email: String,
    /// What they will be; `member` if left out.
    roles: Option<Vec<String>>,
    /// How long the link is good: 1 to 720 hours, 72 if left out.
    #[schema(minimum = 1, maximum = 720)]
    expires_in_hours: Option<i64>,
}

/// An invitation with its link, which is shown once and stored nowhere.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct MadeInvitation {
    /// The invitation.
    invitation: InvitationView,
    /// To be sent to them: whoever has it becomes that person.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// This answers a request that was answered before. The link was in that answer and is in no
    /// other: if it got lost, take the invitation back and make another one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    link_was_shown: bool,
    /// Whether it is on its way to them by mail.
    mailed: bool,
}

/// Invites somebody. Needs `users:write`, and all that the roles allow. The link is good as long as whoever
/// invited could do so still.
#[utoipa::path(
    post,
    path = "/api/v1/invitations",
    tag = "users",
    request_body = InvitationToMake,
    params(("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses(
        (status = 200, description = "Invited before by the same request; the link is not shown again", body = MadeInvitation),
        (status = 201, description = "Invited; the link is shown once", body = MadeInvitation),
        (status = 403, description = "`insufficient_scope`, `exceeds_own_permissions`"),
        (status = 409, description = "`email_taken`, `idempotency_key_reused`"),
    )
)]
pub(crate) async fn create(
    State(app): State<App>,
    manager: Manager,
    Once { name, body }: Once<Body<InvitationToMake>>,
) -> Result<Response, Problem> {
    require(&app, &manager, WRITE).await?;
    let Body(asked) = body;
    let hours = asked.expires_in_hours.unwrap_or(USUAL_HOURS);
    if !(1..=LONGEST_HOURS).contains(&hours) {
        let detail = format!("expires_in_hours is 1 to {LONGEST_HOURS}");
        return Err(Problem::bad_request("invalid_lifetime", detail));
    }
    let email = Email::new(&asked.email)
        .map_err(|error| Problem::bad_request(error.code(), error.to_string()))?;
    let texts = asked.roles.unwrap_or_else(|| vec!["member".to_owned()]);
    let roles = role_names(&texts)?;
    let granted = permissions_of(&app, &roles).await?;
    require_holds(&app, &manager, &granted).await?;
    let token = random_token(&mut rand::rng());
    let new = NewInvitation {
        digest: TokenDigest::of(&token),
        email,
        roles,
        lifetime_ms: hours * HOUR_MS,
    };
    let actor = manager.actor.clone();
    let invited = name.registry(&app, &actor).invite_user(&actor, &new).await;
    let invitation = match done(invited)? {
        Done::Now(invitation) => invitation,
        Done::Before(id) => {
            let before = app.registry.find_invitation_by_id(&id).await;
            return Ok(replayed(private(&MadeInvitation {
                invitation: before.map_err(gone)?.into(),
                link: None,
                link_was_shown: true,
                mailed: false,
            })));
        }
    };
    let link = app
        .settings
        .url(&format!("/invitations/{}", token.expose()));
    let until = invitation.expires_at;
    let mailed = send_invitation(&app, &invitation.email, &link, until).await;
    let mut response = private(&MadeInvitation {
        invitation: invitation.into(),
        link: Some(link),
        link_was_shown: false,
        mailed,
    });
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// All invitations. Needs `users:read`.
#[utoipa::path(
    get,
    path = "/api/v1/invitations",
    tag = "users",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 100, description = "1 to 100"),
    ),
    responses((status = 200, description = "One page", body = InvitationList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    asked: PageAsked,
) -> Result<Response, Problem> {
    require(&app, &manager, READ).await?;
    let page = app
        .registry
        .list_invitations(asked.cursor.as_deref(), asked.limit)
        .await?;
    Ok(private(&InvitationList {
        items: page.items.into_iter().map(InvitationView::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Takes an invitation back. Needs `users:write`.
#[utoipa::path(
    delete,
    path = "/api/v1/invitations/{id}",
    tag = "users",
    params(("id" = String, Path, description = "The invitation")),
    responses(
        (status = 204, description = "It cannot be accepted any more"),
        (status = 404, description = "`invitation_invalid`: unknown, or accepted already"),
    )
)]
pub(crate) async fn withdraw(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    require(&app, &manager, WRITE).await?;
    let withdrawn = app.registry.withdraw_invitation(&manager.actor, &id).await;
    match withdrawn {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(RegistryError::People(error @ PeopleError::Invitation)) => {
            Err(Problem::not_found(error.code(), error.to_string()))
        }
        Err(error) => Err(error.into()),
    }
}
