//! `/api/v1/roles` and `/api/v1/users/{id}/roles`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use keywright_domain::people::{PeopleError, RoleName};
use keywright_domain::scopes::ScopeSet;
use keywright_registry::people::{Role, User};
use keywright_registry::{Seen, Thing};
use serde::{Deserialize, Serialize};

use super::people::EndedUserView;
use super::{READ, WRITE, permissions_of, require_holds, require_not_above, role_names};
use crate::etags::{IfSeen, tag_of, tagged};
use crate::keys::manager::Manager;
use crate::nodes::receipts::{self, ReceiptView, Wait};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::api::{Body, private};
use crate::sessions::require;

/// Longest description.
const LONGEST: usize = 300;
/// At most so many permissions of one role.
const MOST_PERMISSIONS: usize = 200;

/// A role.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct RoleView {
    /// Name.
    name: String,
    /// What it is for.
    description: String,
    /// What it allows.
    permissions: Vec<String>,
    /// Whether it came with the registry and stays as it is.
    built_in: bool,
}

impl From<Role> for RoleView {
    fn from(role: Role) -> Self {
        let permissions = role.permissions.as_slice().iter();
        Self {
            permissions: permissions.map(|one| one.as_str().to_owned()).collect(),
            name: role.name.to_string(),
            description: role.description,
            built_in: role.built_in,
        }
    }
}

/// A role as it was defined, with the receipt.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DefinedRole {
    #[serde(flatten)]
    role: RoleView,
    /// Which nodes know what keys of its people may do now; absent where nobody has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<ReceiptView>,
}

/// All roles.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct RoleList {
    items: Vec<RoleView>,
}

/// What a role is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleToDefine {
    /// What it is for.
    #[serde(default)]
    description: String,
    /// What it allows.
    permissions: Vec<String>,
}

/// The roles of a person.
#[derive(Debug, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserRoles {
    /// Names.
    roles: Vec<String>,
}

impl From<&User> for UserRoles {
    fn from(user: &User) -> Self {
        let roles = user.roles.iter().map(RoleName::to_string).collect();
        Self { roles }
    }
}

fn name(text: &str) -> Result<RoleName, Problem> {
    RoleName::new(text).map_err(|error| Problem::bad_request(error.code(), error.to_string()))
}

/// A name that no role can have is one of no role.
fn known_name(text: &str) -> Result<RoleName, Problem> {
    RoleName::new(text).map_err(|_| {
        let error = PeopleError::RoleNotFound(text.chars().take(40).collect());
        Problem::not_found(error.code(), error.to_string())
    })
}

/// The tag of a role as it is shown.
fn tag(seen: &Seen) -> Option<String> {
    match seen {
        Seen::Role(role) => Some(tag_of(&RoleView::from(role.clone()))),
        _ => None,
    }
}

/// The tag of the roles of a person as they are shown.
fn tag_of_user(seen: &Seen) -> Option<String> {
    match seen {
        Seen::User(user) => Some(tag_of(&UserRoles::from(&**user))),
        _ => None,
    }
}

/// All roles. Needs `roles:read`.
#[utoipa::path(
    get,
    path = "/api/v1/roles",
    tag = "users",
    responses((status = 200, description = "All roles, by name", body = RoleList))
)]
pub(crate) async fn list(State(app): State<App>, manager: Manager) -> Result<Response, Problem> {
    require(&app, &manager, "roles:read").await?;
    let items = app.registry.list_roles().await?;
    let items = items.into_iter().map(RoleView::from).collect();
    Ok(private(&RoleList { items }))
}

/// A role. Needs `roles:read`.
#[utoipa::path(
    get,
    path = "/api/v1/roles/{name}",
    tag = "users",
    params(("name" = String, Path, description = "The role"), ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has: 304 if it is so still")),
    responses(
        (status = 200, description = "The role, with its `ETag`", body = RoleView),
        (status = 304, description = "As the caller has it"),
        (status = 404, description = "`role_not_found`"),
    )
)]
pub(crate) async fn read(
    State(app): State<App>,
    manager: Manager,
    Path(text): Path<String>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    require(&app, &manager, "roles:read").await?;
    let role = app.registry.find_role(&known_name(&text)?).await?;
    seen.show(&RoleView::from(role))
}

/// Defines a role, or changes what it allows; everybody who has it follows at once. Needs
/// `roles:write`, and all that the role allows and allowed.
#[utoipa::path(
    put,
    path = "/api/v1/roles/{name}",
    tag = "users",
    params(("name" = String, Path, description = "The role"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still"), ("If-None-Match" = Option<String>, Header, description = "`*`: only if there is none yet"), ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; as long as it takes, 900 at most, if it is left out")),
    request_body = RoleToDefine,
    responses(
        (status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"),
        (status = 200, description = "Defined: here, and where the receipt says so", body = DefinedRole),
        (status = 403, description = "`insufficient_scope`, `exceeds_own_permissions`"),
        (status = 409, description = "`role_built_in`"),
    )
)]
pub(crate) async fn define(
    State(app): State<App>,
    manager: Manager,
    Path(text): Path<String>,
    wait: Wait,
    seen: IfSeen,
    Body(asked): Body<RoleToDefine>,
) -> Result<Response, Problem> {
    require(&app, &manager, "roles:write").await?;
    let name = name(&text)?;
    if asked.permissions.len() > MOST_PERMISSIONS || asked.description.chars().count() > LONGEST {
        let detail = format!("at most {MOST_PERMISSIONS} permissions, and {LONGEST} characters");
        return Err(Problem::bad_request("role_too_large", detail));
    }
    let permissions = ScopeSet::parse(&asked.permissions.join(" "))
        .map_err(|error| Problem::bad_request("invalid_scope", error.to_string()))?;
    require_holds(&app, &manager, &permissions).await?;
    let before = app.registry.list_roles().await?;
    if let Some(before) = before.iter().find(|role| role.name == name) {
        require_holds(&app, &manager, &before.permissions).await?;
    }
    let role = seen
        .registry(&app, Thing::Role(name.clone()), tag)
        .define_role(&manager.actor, &name, &asked.description, &permissions)
        .await?;
    // The tag is of what this address shows.
    let role = RoleView::from(role);
    let tag = tag_of(&role);
    let receipt = match app.registry.newest_change_of_holders(&name).await {
        Ok(Some(change)) => receipts::of(&app, change, wait).await,
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(code = error.code(), "a change of a role has no receipt");
            None
        }
    };
    Ok(tagged(private(&DefinedRole { role, receipt }), &tag))
}

/// Deletes a role that nobody has. Needs `roles:write`.
#[utoipa::path(
    delete,
    path = "/api/v1/roles/{name}",
    tag = "users",
    params(("name" = String, Path, description = "The role"), ("If-Match" = Option<String>, Header, description = "ETag that was seen: it is done only if it is so still")),
    responses(
        (status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"),
        (status = 204, description = "Deleted"),
        (status = 404, description = "`role_not_found`"),
        (status = 409, description = "`role_in_use`, `role_built_in`"),
    )
)]
pub(crate) async fn remove(
    State(app): State<App>,
    manager: Manager,
    Path(text): Path<String>,
    seen: IfSeen,
) -> Result<StatusCode, Problem> {
    require(&app, &manager, "roles:write").await?;
    let name = known_name(&text)?;
    let registry = seen.registry(&app, Thing::Role(name.clone()), tag);
    registry.delete_role(&manager.actor, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The roles of a person. Needs `users:read`.
#[utoipa::path(
    get,
    path = "/api/v1/users/{id}/roles",
    tag = "users",
    params(("id" = String, Path, description = "The person"), ("If-None-Match" = Option<String>, Header, description = "ETag that the caller has: 304 if it is so still")),
    responses((status = 304, description = "As the caller has it"), (status = 200, description = "The roles, with their `ETag`", body = UserRoles))
)]
pub(crate) async fn of_user(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    seen: IfSeen,
) -> Result<Response, Problem> {
    require(&app, &manager, READ).await?;
    let user = app.registry.find_user(&id).await?;
    seen.show(&UserRoles::from(&*user))
}

/// Gives a person exactly these roles; the receipt says which nodes know it of their keys. Needs
/// `users:write`, and all that the roles allow and allowed.
#[utoipa::path(
    put,
    path = "/api/v1/users/{id}/roles",
    tag = "users",
    params(("id" = String, Path, description = "The person"), ("If-Match" = Option<String>, Header, description = "ETag of the roles that was seen: it is done only if it is so still"), ("wait_ms" = Option<u64>, Query, maximum = 1000, description = "How long to wait for the other nodes; as long as it takes, 900 at most, if it is left out")),
    request_body = UserRoles,
    responses(
        (status = 412, description = "`precondition_failed`: it does not stand as the caller saw it"),
        (status = 200, description = "The person", body = EndedUserView),
        (status = 403, description = "`insufficient_scope`, `exceeds_own_permissions`, `person_may_do_more`"),
        (status = 409, description = "`last_owner`"),
    )
)]
pub(crate) async fn set_of_user(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    wait: Wait,
    seen: IfSeen,
    Body(asked): Body<UserRoles>,
) -> Result<Response, Problem> {
    require(&app, &manager, WRITE).await?;
    let user = app.registry.find_user(&id).await?;
    require_not_above(&app, &manager, &user).await?;
    let roles = role_names(&asked.roles)?;
    let granted = permissions_of(&app, &roles).await?;
    require_holds(&app, &manager, &granted).await?;
    let user = seen
        .registry(&app, Thing::User(id.clone()), tag_of_user)
        .set_user_roles(&manager.actor, &id, &roles)
        .await?;
    // The tag is of what this address shows.
    let tag = tag_of(&UserRoles::from(&user));
    let view = EndedUserView::of(&app, &user, wait).await;
    Ok(tagged(private(&view), &tag))
}
