//! `/api/v1/users/{id}/password-reset`: a link by which a person chooses another password, once. The
//! one of now stops to work at once, and everything that it gave ends.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};

use super::{WRITE, require_not_above};
use crate::keys::manager::Manager;
use crate::once::{Done, Once, done, replayed};
use crate::problem::Problem;
use crate::server::App;
use crate::sessions::api::{Body, private};
use crate::sessions::{self, require};
use crate::sign_in::set_up::password_reset::Link;

const HOUR_MS: i64 = 60 * 60 * 1000;
const USUAL_HOURS: i64 = 24;
const LONGEST_HOURS: i64 = 72;

/// How long the link is to be good.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordResetToMake {
    /// 1 to 72 hours, 24 if left out.
    #[schema(minimum = 1, maximum = 72)]
    expires_in_hours: Option<i64>,
}

/// A link, which is shown once and stored nowhere.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct MadePasswordReset {
    /// To be sent to the person: whoever has it chooses their password.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// This answers a request that was answered before. The link was in that answer and is in no
    /// other: if it got lost, ask for another one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    link_was_shown: bool,
    /// Until when it is good, Unix milliseconds.
    expires_at: i64,
    /// How many sessions ended; absent where the link is.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_sessions: Option<usize>,
    /// How many applications lost their access; absent where the link is.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_grants: Option<usize>,
}

/// Takes a person's password away and gives a link to choose another. A link that was given before is
/// worthless afterwards. Second factors stay. Needs `users:write`, and all that the person may do. The link
/// is good as long as whoever gave it could give it still.
#[utoipa::path(
    post,
    path = "/api/v1/users/{id}/password-reset",
    tag = "users",
    params(("id" = String, Path, description = "The person"), ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, for seven days: asked for again, it is not done again")),
    request_body = PasswordResetToMake,
    responses(
        (status = 200, description = "Done before by the same request; the link is not shown again", body = MadePasswordReset),
        (status = 201, description = "Sessions are over; the link is shown once", body = MadePasswordReset),
        (status = 400, description = "`invalid_lifetime`"),
        (status = 403, description = "`insufficient_scope`, `person_may_do_more`, `user_disabled`"),
        (status = 404, description = "`user_not_found`"),
        (status = 409, description = "`idempotency_key_reused`"),
    )
)]
pub(crate) async fn create(
    State(app): State<App>,
    manager: Manager,
    Path(id): Path<String>,
    Once { name, body }: Once<Body<PasswordResetToMake>>,
) -> Result<Response, Problem> {
    require(&app, &manager, WRITE).await?;
    let Body(asked) = body;
    let hours = asked.expires_in_hours.unwrap_or(USUAL_HOURS);
    if !(1..=LONGEST_HOURS).contains(&hours) {
        let detail = format!("expires_in_hours is 1 to {LONGEST_HOURS}");
        return Err(Problem::bad_request("invalid_lifetime", detail));
    }
    let user = app.registry.find_user(&id).await?;
    require_not_above(&app, &manager, &user).await?;
    let actor = manager.actor.clone();
    let reset = name
        .registry(&app, &actor)
        .reset_password(&actor, &id)
        .await;
    let (moment, ended) = match done(reset)? {
        Done::Now(now) => now,
        Done::Before(moment) => {
            let moment = moment.parse().unwrap_or(0_i64);
            return Ok(replayed(private(&MadePasswordReset {
                link: None,
                link_was_shown: true,
                expires_at: moment.saturating_add(hours * HOUR_MS),
                ended_sessions: None,
                ended_grants: None,
            })));
        }
    };
    sessions::ended_elsewhere(&app, &ended).await?;
    let link = Link {
        user_id: id,
        moment,
        until: moment.saturating_add(hours * HOUR_MS),
        by: actor.as_str().to_owned(),
    };
    let mut response = private(&MadePasswordReset {
        link: Some(link.url(&app)),
        link_was_shown: false,
        expires_at: link.until,
        ended_sessions: Some(ended.sessions.len()),
        ended_grants: Some(ended.grants),
    });
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}
