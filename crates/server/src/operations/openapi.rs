//! The API's description (OpenAPI 3.1), made of the handlers themselves.

mod credentials;
mod parameters;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use utoipa::OpenApi;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder, ServerBuilder, Tag};

use crate::server::App;
use crate::settings::Settings;
use crate::{clients, key_service, keys, nodes, rp, sessions, sign_in, users, webhooks};

#[derive(OpenApi)]
#[openapi(
    paths(
        keys::permissions::read,
        keys::list::list,
        keys::list::read,
        keys::counts::counts,
        keys::list::scopes,
        keys::issue::issue,
        keys::change::change,
        keys::change::revoke,
        keys::change::disable,
        keys::change::enable,
        keys::change::define_scope,
        keys::owners::revoke_keys,
        keys::change::remove_scope,
        keys::rotate::rotate,
        keys::rotate::step,
        keys::rotate::revoke_secret,
        keys::verify::verify,
        nodes::list::list,
        nodes::receipts::read,
        clients::api::list,
        clients::api::add,
        clients::api::read,
        clients::api::change,
        clients::api::remove,
        clients::api::disable,
        clients::api::enable,
        clients::api::rotate_secret,
        clients::api::revoke_tokens,
        clients::tokens::list,
        clients::tokens::make,
        clients::tokens::end,
        webhooks::api::list,
        webhooks::api::create,
        webhooks::api::read,
        webhooks::api::change,
        webhooks::api::remove,
        webhooks::api::rotate_secret,
        webhooks::deliveries::test,
        webhooks::deliveries::list,
        webhooks::deliveries::read,
        webhooks::deliveries::redeliver,
        webhooks::deliveries::redeliver_failed,
        key_service::policies::list,
        key_service::policies::read,
        key_service::policies::put,
        key_service::policies::remove,
        key_service::schedules::list,
        key_service::schedules::read,
        key_service::schedules::put,
        key_service::schedules::remove,
        key_service::schedules::step,
        key_service::schedules::notices,
        key_service::owners::list,
        key_service::owners::create,
        key_service::owners::read,
        key_service::owners::change,
        key_service::owners::disable,
        key_service::owners::enable,
        key_service::stragglers::read,
        key_service::stragglers::finish_if_drained,
        key_service::stragglers::closing,
        key_service::rotations::list,
        key_service::rotations::read,
        key_service::deliveries::list,
        key_service::deliveries::report,
        key_service::deliveries::reissue,
        key_service::audit::list,
        key_service::audit::verify,
        key_service::audit::export,
        key_service::audit::checkpoint_keys,
        key_service::audit::checkpoint,
        key_service::alerts::list,
        key_service::alerts::seen,
        key_service::notices::list,
        key_service::notices::read,
        key_service::notices::read_until,
        key_service::hygiene::counts,
        key_service::hygiene::list,
        key_service::scope_proposals::read,
        key_service::campaigns::list,
        key_service::campaigns::begin,
        key_service::campaigns::read,
        key_service::campaigns::cancel,
        key_service::campaigns::questions,
        key_service::campaigns::answer,
        key_service::campaigns::waiting,
        key_service::preview::preview,
        key_service::preview::preview_many,
        key_service::export::export,
        key_service::import::import,
        key_service::promotions::offer,
        key_service::promotions::accept,
        key_service::promotions::bundle,
        key_service::promotions::left,
        key_service::promotions::end_copy,
        key_service::events::follow,
        key_service::bulk::list,
        key_service::bulk::begin,
        key_service::bulk::read,
        key_service::bulk::failures,
        key_service::bulk::cancel,
        key_service::later::list,
        key_service::later::read,
        key_service::later::cancel,
        rp::providers::list,
        rp::providers::read,
        rp::providers::put,
        rp::providers::disable,
        sessions::session::show,
        sessions::csrf_token::show,
        sessions::sign_out::sign_out,
        sessions::review::list,
        sessions::review::end,
        sessions::review::revoke_others,
        sessions::review::revoke_all,
        sessions::applications::list,
        sessions::applications::remove,
        sessions::sign_ins::list,
        sessions::of_users::list,
        sessions::of_users::sign_ins,
        sessions::of_users::end,
        sessions::of_users::revoke_all,
        sign_in::browser_client::login,
        sign_in::browser_client::refresh,
        users::people::list,
        users::people::read,
        users::people::create,
        users::people::change,
        users::people::disable,
        users::people::enable,
        users::people::remove,
        users::invitations::create,
        users::password_resets::create,
        users::invitations::list,
        users::invitations::withdraw,
        users::roles::list,
        users::roles::read,
        users::roles::define,
        users::roles::remove,
        users::roles::of_user,
        users::roles::set_of_user,
    ),
    info(
        title = "Keywright",
        description = "API keys, people and sessions. Who calls proves it by a session with its CSRF token, an \
                       access token, or a root key (`Authorization: Bearer`, or `X-API-Key`), and may do \
                       what roles, scopes or both say; “the caller's own” needs a person. Refusals are \
                       problems (RFC 9457) with a stable `code`. No text holds U+0000. OAuth's endpoints are described by \
                       /.well-known/openid-configuration."
    )
)]
struct Described;

/// The description for this server.
pub(super) fn describe(settings: &Settings) -> utoipa::openapi::OpenApi {
    let mut api = Described::openapi();
    api.info.version = env!("CARGO_PKG_VERSION").to_owned();
    // What cargo knows of the authors is no contact.
    api.info.contact = None;
    api.info.license = None;
    api.servers = Some(vec![
        ServerBuilder::new().url(settings.issuer.as_str()).build(),
    ]);
    let mut tags = vec![
        Tag::new("keys"),
        Tag::new("policies"),
        Tag::new("schedules"),
        Tag::new("audit"),
        Tag::new("hygiene"),
        Tag::new("import and export"),
        Tag::new("promotion"),
        Tag::new("events"),
        Tag::new("bulk"),
        Tag::new("operations"),
        Tag::new("sessions"),
        Tag::new("sign-in"),
        Tag::new("users"),
        Tag::new("identity providers"),
        Tag::new("clients"),
        Tag::new("webhooks"),
        Tag::new("nodes"),
    ];
    let words = [
        "API keys: issue, list, verify, rotate, end",
        "What environments allow of their keys",
        "Rotations by the calendar, and the notices before them",
        "Who did what, chained and signed",
        "Keys that want tidying, and alerts",
        "Files without secrets, and hashes of other systems",
        "Keys that move to another registry and keep their strings",
        "Changes as they happen, for caches",
        "One operation over many keys",
        "Requests that are answered later (RFC 7240)",
        "The caller's own sessions and applications",
        "For programs in a browser",
        "People, roles and invitations, for administrators and programs",
        "Where else people may sign in from",
        "Applications that ask for tokens, for administrators",
        "Who else is told what happens",
        "Servers over one database",
    ];
    for (tag, text) in tags.iter_mut().zip(words) {
        tag.description = Some(text.to_owned());
    }
    api.tags = Some(tags);
    let mut components = api.components.take().unwrap_or_default();
    credentials::add_schemes(&mut components, settings);
    parameters::of_bodies(&mut components.schemas);
    components.schemas.insert("Problem".to_owned(), problem());
    api.components = Some(components);
    api.security = Some(credentials::of_most());
    for item in api.paths.paths.values_mut() {
        let all = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in all.into_iter().filter_map(Option::as_mut) {
            refusals(&mut operation.responses.responses);
            parameters::of_operation(operation);
        }
    }
    api
}

/// RFC 9457, with our `code`. Some refusals have more members.
fn problem() -> RefOr<Schema> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    ObjectBuilder::new()
        .description(Some("Why it was refused (RFC 9457)"))
        .property("type", text())
        .property("title", text())
        .property("status", ObjectBuilder::new().schema_type(Type::Integer))
        .property("code", text().description(Some("Stable; the list grows")))
        .property("detail", text().description(Some("For people")))
        .required("status")
        .required("code")
        .into()
}

/// Every operation can be refused: by name where it says so, otherwise by `default`.
fn refusals(responses: &mut BTreeMap<String, RefOr<Response>>) {
    let body = || {
        let schema = Ref::from_schema_name("Problem");
        ContentBuilder::new().schema(Some(schema)).build()
    };
    const KIND: &str = "application/problem+json";
    for (status, response) in responses.iter_mut() {
        if let RefOr::T(response) = response
            && status.starts_with(['4', '5'])
            && response.content.is_empty()
        {
            response.content.insert(KIND.to_owned(), body().into());
        }
    }
    let refused = ResponseBuilder::new()
        .description("Refused")
        .content(KIND, body())
        .build();
    responses.insert("default".to_owned(), refused.into());
}

/// `/api/openapi.json`
pub(super) async fn document(
    State(app): State<App>,
) -> (
    [(HeaderName, HeaderValue); 1],
    Json<utoipa::openapi::OpenApi>,
) {
    let cache = HeaderValue::from_static("public, max-age=300");
    (
        [(header::CACHE_CONTROL, cache)],
        Json(describe(&app.settings)),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use axum::body::Body;
    use axum::http::{Method, StatusCode};

    use crate::test_support::TestServer;

    /// Routes under the API's paths that are for browsers, or that other standards describe.
    const NOT_DESCRIBED: [&str; 3] = ["/auth/login/", "/auth/callback/", "/auth/signIn/"];

    fn routes_in(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                routes_in(&path, found);
            } else if name.ends_with(".rs") && !name.contains("test") {
                let text = fs::read_to_string(&path).unwrap();
                for part in text.split(".route(").skip(1) {
                    let route = part.trim_start().strip_prefix('"');
                    let Some(route) = route.and_then(|rest| rest.split('"').next()) else {
                        continue;
                    };
                    if route.starts_with("/api/v1/") || route.starts_with("/auth/") {
                        found.insert(route.to_owned());
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn the_description_and_the_routes_say_the_same() {
        let server = TestServer::start().await;
        let mut browser = server.browser();
        let answer = browser.get("/api/openapi.json").await;
        let document = answer.json();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        assert_eq!(document["servers"][0]["url"], "http://127.0.0.1:8377");
        let paths = document["paths"].as_object().unwrap();
        assert!(paths.len() > 20, "{}", paths.len());

        // What is described is there.
        for (path, item) in paths {
            for method in item.as_object().unwrap().keys() {
                let Ok(verb) = method.to_uppercase().parse::<Method>() else {
                    continue;
                };
                let asked = path.replace(['{', '}'], "");
                let answer = browser.send(verb, &asked, &[], Body::empty()).await;
                let code = answer.json()["code"].clone();
                assert_ne!(
                    answer.status,
                    StatusCode::METHOD_NOT_ALLOWED,
                    "{method} {path}"
                );
                assert_ne!(code, "not_found", "{method} {path}");
            }
        }
        // What is there is described.
        let mut routes = BTreeSet::new();
        routes_in(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut routes,
        );
        assert!(routes.len() > 20, "{}", routes.len());
        let missing: Vec<_> = routes
            .iter()
            .filter(|route| !paths.contains_key(*route))
            .filter(|route| !NOT_DESCRIBED.iter().any(|start| route.starts_with(start)))
            .collect();
        assert!(missing.is_empty(), "not described: {missing:?}");
    }

    #[tokio::test]
    async fn the_page_names_every_operation_and_needs_no_script() {
        let server = TestServer::start().await;
        let mut browser = server.browser();
        let document = browser.get("/api/openapi.json").await.json();
        let page = browser.get("/api/docs").await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(!page.text.contains("<script"));
        for path in document["paths"].as_object().unwrap().keys() {
            assert!(page.text.contains(path.as_str()), "{path}");
        }
    }
}
