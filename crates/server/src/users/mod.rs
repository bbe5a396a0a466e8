//! People and roles, as administrators see them: `/api/v1/users`, `/api/v1/roles`, `/api/v1/invitations`.
//! Nobody grants what they do not hold, and nobody changes somebody who may do more than they.

pub(crate) mod invitations;
pub(crate) mod password_resets;
pub(crate) mod people;
pub(crate) mod roles;

#[cfg(test)]
mod tests;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use keywright_domain::people::{PeopleError, RoleName, union_of};
use keywright_domain::scopes::ScopeSet;
use keywright_registry::people::User;

use crate::keys::manager::Manager;
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::api::wrong_method as wrong;
use crate::sessions::refused;

/// Sees people, roles and invitations.
pub(crate) const READ: &str = "users:read";
/// Changes them.
pub(crate) const WRITE: &str = "users:write";

/// Below the base path.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/api/v1/users",
            get(people::list).post(people::create).fallback(wrong),
        )
        .route(
            "/api/v1/users/{id}",
            get(people::read)
                .patch(people::change)
                .delete(people::remove)
                .fallback(wrong),
        )
        .route(
            "/api/v1/users/{id}/disable",
            post(people::disable).fallback(wrong),
        )
        .route(
            "/api/v1/users/{id}/enable",
            post(people::enable).fallback(wrong),
        )
        .route(
            "/api/v1/users/{id}/password-reset",
            post(password_resets::create).fallback(wrong),
        )
        .route(
            "/api/v1/users/{id}/roles",
            get(roles::of_user).put(roles::set_of_user).fallback(wrong),
        )
        .route("/api/v1/roles", get(roles::list).fallback(wrong))
        .route(
            "/api/v1/roles/{name}",
            get(roles::read)
                .put(roles::define)
                .delete(roles::remove)
                .fallback(wrong),
        )
        .route(
            "/api/v1/invitations",
            get(invitations::list)
                .post(invitations::create)
                .fallback(wrong),
        )
        .route(
            "/api/v1/invitations/{id}",
            delete(invitations::withdraw).fallback(wrong),
        )
}

/// At most so many roles at once.
const MOST_ROLES: usize = 50;

/// Names of roles, checked.
fn role_names(texts: &[String]) -> Result<Vec<RoleName>, Problem> {
    if texts.len() > MOST_ROLES {
        let detail = format!("at most {MOST_ROLES} roles");
        return Err(Problem::bad_request("too_many_roles", detail));
    }
    let names: Result<Vec<_>, PeopleError> = texts.iter().map(|one| RoleName::new(one)).collect();
    names.map_err(|error| Problem::bad_request(error.code(), error.to_string()))
}

/// What some roles allow together.
async fn permissions_of(app: &App, names: &[RoleName]) -> Result<ScopeSet, Problem> {
    let known = app.registry.list_roles().await?;
    let mut sets = Vec::with_capacity(names.len());
    for name in names {
        let role = known.iter().find(|role| role.name == *name);
        let role = role.ok_or_else(|| {
            let error = PeopleError::RoleNotFound(name.to_string());
            Problem::bad_request(error.code(), error.to_string())
        })?;
        sets.push(role.permissions.clone());
    }
    Ok(union_of(&sets))
}

/// Refuses a caller who would grant what they do not hold (AC-131). A key and a client hold their
/// scopes, a person's token what it says and the person may.
///
/// # Errors
/// 403 `exceeds_own_permissions`.
async fn require_holds(app: &App, manager: &Manager, granted: &ScopeSet) -> Result<(), Problem> {
    if manager.held(true).covers_all(granted) {
        return Ok(());
    }
    refused(app, manager, "grant of more than held").await;
    let detail = "this would give permissions that you do not have yourself";
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "exceeds_own_permissions",
        detail,
    ))
}

/// Refuses a caller who would change somebody who may do more: by another address or an end to a
/// disabled state they would take over what they do not hold.
///
/// # Errors
/// 403 `person_may_do_more`.
async fn require_not_above(app: &App, manager: &Manager, user: &User) -> Result<(), Problem> {
    if manager.held(true).covers_all(&user.permissions) {
        return Ok(());
    }
    refused(app, manager, "change of somebody who may do more").await;
    let detail = "this person may do more than you: somebody with their permissions must do this";
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "person_may_do_more",
        detail,
    ))
}
