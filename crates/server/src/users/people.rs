//! `/api/v1/users`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::SecretText;
use keywright_domain::people::{Email, RoleName};
use keywright_registry::people::{NewUser, User, UserChange, UserOrder, UserQuery};
use keywright_registry::{Seen, Thing};
use serde::{Deserialize, Serialize};

use super::{READ, WRITE, permissions_of, require_holds, require_not_above, role_names};
use crate::etags::{IfSeen, shown, tag_of};
use crate::keys::manager::Manager;
use crate::nodes::receipts::{self, ReceiptView, Wait};
use crate::oauth2::back_channel;
use crate::once::{Done, Once, done, gone, replayed};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions;
use crate::sessions::api::{Body, PageAsked, private};
use crate::sessions::require;

/// A person. Times are Unix milliseconds.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct UserView {
    /// Stable id: `sub` of tokens, and the owner of keys.
    id: String,
    /// Name.
    name: String,
    /// E-mail address.
    email: Option<String>,
    /// Whether mail to it was answered.
    email_verified: bool,
    /// Roles.
    roles: Vec<String>,
    /// What the roles allow together.
    permissions: Vec<String>,
    /// Whether there is a password.
    has_password: bool,
    /// Latest sign-in.
    last_sign_in_at: Option<i64>,
    /// Passwords are not tried before this moment.
    locked_until: Option<i64>,
    /// When the person was added.
    created_at: i64,
    /// When the person was disabled, if so.
    disabled_at: Option<i64>,
    /// Why.
    disabled_reason: Option<String>,
}

impl From<&User> for UserView {
    fn from(user: &User) -> Self {
        let permissions = user.permissions.as_slice().iter();
        Self {
            permissions: permissions.map(|one| one.as_str().to_owned()).collect(),
            roles: user.roles.iter().map(RoleName::to_string).collect(),
            email: user.email.as_ref().map(|email| email.to_string()),
            id: user.id.clone(),
            name: user.name.clone(),
            email_verified: user.email_verified,
            has_password: user.has_password,
            last_sign_in_at: user.last_sign_in_at,
            locked_until: user.locked_until,
            created_at: user.created_at,
            disabled_at: user.disabled_at,
            disabled_reason: user.disabled_reason.clone(),
        }
    }
}

/// A person who lost something, with the receipt.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EndedUserView {
    #[serde(flatten)]
    user: UserView,
    /// Which nodes know it, and so refuse what it ended of all keys of theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptView>,
}

impl EndedUserView {
    /// With the receipt of the newest change of this person.
    pub(super) async fn of(app: &App, user: &User, wait: Wait) -> Self {
        Self {
            user: UserView::from(user),
            receipt: receipts::of_person(app, &user.id, wait).await,
        }
    }
}

/// A person who was deleted.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DeletedUserView {
    /// Keys and the audit trail name it still.
    id: String,
    /// Which nodes refuse all keys of theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptView>,
}

/// One page of people.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct UserList {
    items: Vec<UserView>,
    next_cursor: Option<String>,
}

/// A person who is to be added.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserToAdd {
    /// Name.
    name: String,
    /// E-mail address.
    email: Option<String>,
    /// Whether it is known to be theirs.
    #[serde(default)]
    email_verified: bool,
    /// Roles.
    #[serde(default)]
    roles: Vec<String>,
    /// First password; better an invitation, which lets them choose it.
    #[schema(value_type = Option<String>)]
    password: Option<Password>,
}

/// A password in a body: it never shows.
#[derive(Deserialize)]
#[serde(transparent)]
struct Password(String);

/// What is to change of a person; what is left out stays.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserToChange {
    /// Name.
    name: Option<String>,
    /// E-mail address; empty for none.
    email: Option<String>,
    /// Whether it is known to be theirs; false with another address if left out.
    email_verified: Option<bool>,
}

/// Why a person is disabled.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DisableReason {
    /// For the audit trail.
    #[serde(default)]
    reason: String,
}

/// The tag of a person as they are shown.
fn tag(seen: &Seen) -> Option<String> {
    match seen {
        Seen::User(user) => Some(tag_of(&UserView::from(&**user))),
        _ => None,
    }
}

fn email(text: &str) -> Result<Option<Email>, Problem> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    Email::new(text)
        .map(Some)
        .map_err(|error| Problem::bad_request(error.code(), error.to_string()))
}

/// People, A to Z. Needs `users:read`.
#[utoipa::path(
    get,
    path = "/api/v1/users",
    tag = "users",
    params(
        ("text" = Option<String>, Query, description = "Part of a name or an e-mail address"),
        ("order" = Option<String>, Query, description = "`name` or `newest`"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 100"),
    ),
    responses((status = 200, description = "One page", body = UserList))
)]
pub(crate) async fn list(
    State(app): State<App>,
    manager: Manager,
    asked: PageAsked,
) -> Result<Response, Problem> {
    require(&app, &manager, READ).await?;
    let order = match asked.params.get("order") {
        None | Some("name") => UserOrder::NameAsc,
        Some("newest") => UserOrder::CreatedDesc,
        Some(_) => {
            return Err(Problem::bad_request(
                "invalid_order",
                "order is name or newest",
            ));
        }
    };
    let text = asked.params.get("text").unwrap_or("");
    let query = UserQuery {
        text: text.chars().take(100).collect(),
        order,
        cursor: asked.cursor.clone(),
        limit: asked.limit,
    };
    let page = app.registry.list_users(&query).await?;
    Ok(private(&UserList {
        items: page.items.iter().map(UserView::from).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// A person. Needs `users:read`.
#[utoipa::path(
    get,
    path = "/api/v1/users/{id}",
    tag = "users",
    params(("id" = String, Path, description = "The person"), ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has: 304 if it is so still")),
    responses(
        (status = 200, description = "The person, with the `ETag`", body = UserView),
        (status = 304, description = "As the caller has it"),
        (status = 404, description = "`user_not_found`"),
    )
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    require(&app, &manager, READ).await?;
    seen.show(&UserView::from(&*app.registry.find_user(&id).await?))
}

/// Adds a person. Needs `users:write`, and all that the roles allow.
#[utoipa::path(
    post,
    path = "/api/v1/users",
    tag = "users",
    request_body = UserToAdd,
    params(("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    responses(
        (status = 201, description = "Added", body = UserView),
        (status = 200, description = "Added before by the same request", body = UserView),
        (status = 403, description = "`insufficient_scope`, `exceeds_own_permissions`"),
        (status = 409, description = "`email_taken`, `idempotency_key_reused`"),
    )
)]
pub(crate) async fn create(
    State(app): State<App>,
    manager: Manager,
    Once { name, body }: Once<Body<UserToAdd>>,
) -> Result<Response, Problem> {
    require(&app, &manager, WRITE).await?;
    let Body(asked) = body;
    let roles = role_names(&asked.roles)?;
    let granted = permissions_of(&app, &roles).await?;
    require_holds(&app, &manager, &granted).await?;
    let password_hash = match asked.password {
        None => None,
        Some(Password(text)) => Some(hash(&app, SecretText::new(text)).await?),
    };
    let new = NewUser {
        name: asked.name,
        email: email(asked.email.as_deref().unwrap_or(""))?,
        email_verified: asked.email_verified,
        roles,
        password_hash,
    };
    let actor = manager.actor.clone();
    let created = name.registry(&app, &actor).create_user(&actor, &new).await;
    let user = match done(created)? {
        Done::Now(user) => user,
        Done::Before(id) => {
            let user = app.registry.find_user(&id).await.map_err(gone)?;
            return Ok(replayed(private(&UserView::from(&*user))));
        }
    };
    let mut response = private(&UserView::from(&user));
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

async fn hash(app: &App, password: SecretText) -> Result<SecretText, Problem> {
    app.passwords.hash(&password).await.map_err(|error| {
        if error == crate::PasswordError::Busy {
            Problem::rate_limited(2)
        } else {
            Problem::bad_request(error.code(), error.to_string())
        }
    })
}

/// Changes a person's name or e-mail address. Needs `users:write`, and all that the person may do.
#[utoipa::path(
    patch,
    path = "/api/v1/users/{id}",
    tag = "users",
    params(("id" = String, Path, description = "The person"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still")),
    request_body = UserToChange,
    responses(
        (status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"),
        (status = 200, description = "Changed", body = UserView),
        (status = 403, description = "`insufficient_scope`, `person_may_do_more`"),
        (status = 404, description = "`user_not_found`"),
        (status = 409, description = "`email_taken`"),
    )
)]
pub(crate) async fn change(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
    Body(asked): Body<UserToChange>,
) -> Result<Response, Problem> {
    require(&app, &manager, WRITE).await?;
    let user = app.registry.find_user(&id).await?;
    require_not_above(&app, &manager, &user).await?;
    let change = UserChange::Profile {
        name: asked.name,
        email: asked.email.as_deref().map(email).transpose()?,
        email_verified: asked.email_verified,
    };
    let user = seen
        .registry(&app, Thing::User(id.clone()), tag)
        .change_user(&manager.actor, &id, &change)
        .await?;
    Ok(shown(&UserView::from(&user)))
}

/// Disables a person: sessions and access of applications end, keys are suspended; the receipt says where.
/// Needs `users:write`, and all that the person may do.
#[utoipa::path(
    post,
    path = "/api/v1/users/{id}/disable",
    tag = "users",
    params(("id" = String, Path, description = "The person"), ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; as long as it takes, 900 at most, if it is left out")),
    request_body = DisableReason,
    responses(
        (status = 200, description = "Disabled: here, and where the receipt says so", body = EndedUserView),
        (status = 403, description = "`insufficient_scope`, `person_may_do_more`"),
        (status = 409, description = "`last_owner`"),
    )
)]
pub(crate) async fn disable(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    wait: Wait,
    Body(asked): Body<DisableReason>,
) -> Result<Response, Problem> {
    require(&app, &manager, WRITE).await?;
    let user = app.registry.find_user(&id).await?;
    require_not_above(&app, &manager, &user).await?;
    let user = app
        .registry
        .disable_user(&manager.actor, &id, &asked.reason)
        .await?;
    back_channel::deliver_soon(&app);
    sessions::catch_up(&app).await?;
    Ok(private(&EndedUserView::of(&app, &user, wait).await))
}

/// Enables a person again; sessions stay ended. Needs `users:write`, and all that the person may do.
#[utoipa::path(
    post,
    path = "/api/v1/users/{id}/enable",
    tag = "users",
    params(("id" = String, Path, description = "The person")),
    responses(
        (status = 200, description = "Enabled", body = UserView),
        (status = 403, description = "`insufficient_scope`, `person_may_do_more`"),
        (status = 404, description = "`user_not_found`"),
    )
)]
pub(crate) async fn enable(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    require(&app, &manager, WRITE).await?;
    let user = app.registry.find_user(&id).await?;
    require_not_above(&app, &manager, &user).await?;
    let user = app.registry.enable_user(&manager.actor, &id).await?;
    Ok(private(&UserView::from(&user)))
}

/// Deletes what is personal of a person. Keys and the audit trail keep an id without a name, and no key of
/// theirs is let through: the receipt says where. Needs `users:write`, and all that the person may do.
#[utoipa::path(
    delete,
    path = "/api/v1/users/{id}",
    tag = "users",
    params(("id" = String, Path, description = "The person"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still"), ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; as long as it takes, 900 at most, if it is left out")),
    responses(
        (status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"),
        (status = 200, description = "Deleted: here, and where the receipt says so", body = DeletedUserView),
        (status = 403, description = "`insufficient_scope`, `person_may_do_more`"),
        (status = 404, description = "`user_not_found`"),
        (status = 409, description = "`last_owner`"),
    )
)]
pub(crate) async fn remove(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    wait: Wait,
    seen: IfSeen,
) -> Result<Response, Problem> {
    require(&app, &manager, WRITE).await?;
    let user = app.registry.find_user(&id).await?;
    require_not_above(&app, &manager, &user).await?;
    seen.registry(&app, Thing::User(id.clone()), tag)
        .delete_user(&manager.actor, &id)
        .await?;
    back_channel::deliver_soon(&app);
    sessions::catch_up(&app).await?;
    let receipt = receipts::of_person(&app, &id, wait).await;
    Ok(private(&DeletedUserView { id, receipt }))
}
