//! Forward authentication: a gateway (nginx `auth_request`, Caddy, Traefik, Envoy) asks here before it
//! lets a request through. 204 with who it is (Envoy: 200), or 401, 403, 429 with why not.

use std::borrow::Cow;

use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use keywright_registry::{Caller, Verification, VerifyRequest};

use super::bearer::{self, text};
use super::manager::peppers;
use super::verify::{Needs, refused_in_url};
use crate::http::{Params, Peer, Values};
use crate::operations::Outcome;
use crate::operations::verifications::{Door, Ending};
use crate::problem::Problem;
use crate::server::App;

/// Where gateways write the address that was asked for: nginx by configuration, Caddy and Traefik,
/// Envoy.
const ADDRESSES: [&str; 3] = ["x-original-uri", "x-forwarded-uri", "x-envoy-original-path"];
/// And the method.
const METHODS: [&str; 2] = ["x-original-method", "x-forwarded-method"];

/// Where gateways that keep our query for themselves say what is needed. Gateways may pass on headers
/// that a client made up: these can only ask for more, and so there is none for the cost.
const NEEDS: [(&str, &str); 3] = [
    ("scope", "x-keywright-scope"),
    ("environment", "x-keywright-environment"),
    ("type", "x-keywright-type"),
];

/// What an acceptance says of the key: ids, scopes, when its secret ends (Unix ms).
const ANSWERS: [HeaderName; 5] = [
    HeaderName::from_static("x-keywright-key-id"),
    HeaderName::from_static("x-keywright-kid"),
    HeaderName::from_static("x-keywright-owner"),
    HeaderName::from_static("x-keywright-scopes"),
    HeaderName::from_static("x-keywright-retires-at"),
];
/// Why not, for gateways that pass on no body of ours.
const CODE: HeaderName = HeaderName::from_static("x-keywright-code");

/// Verifies the key of a request that a gateway holds back. `scope`, `environment` and `type` (several
/// with commas) in our own address say what is needed, or headers of these names; never both. Behind
/// `/verify` may stand the path that was asked for (Envoy): its query is then not ours, its method is, and
/// an acceptance is 200, for Envoy takes every other status for a refusal.
pub(crate) async fn forward_auth(
    State(app): State<App>,
    peer: Peer,
    method: Method,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Response {
    match judged(&app, &peer, &method, &uri, &headers).await {
        Ok(accepted) => {
            let outcome = accepted.outcome();
            outcome.beside(accepted.answer(HeaderMap::new(), Body::empty()))
        }
        Err(problem) => {
            let (response, outcome) = refused(problem);
            outcome.beside(response)
        }
    }
}

/// A refusal, and what the log says of it: its code stands in a header too.
pub(crate) fn refused(problem: Problem) -> (Response, Outcome) {
    let code = HeaderValue::from_static(problem.code);
    let (mut response, outcome) = problem.into_parts();
    response.headers_mut().insert(CODE, code);
    (response, outcome)
}

/// Judges such a request, and counts how that ended.
///
/// # Errors
/// What it is refused for.
pub(crate) async fn judged(
    app: &App,
    peer: &Peer,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Accepted, Problem> {
    let mut verdict = None;
    let mut awaited = app.operations.metrics.awaited(Door::Gateway, 1);
    let judged = judge(app, peer, method, uri, headers, &mut verdict).await;
    awaited.ended(match &judged {
        Ok(_) => Ending::Valid,
        Err(problem) => verdict.unwrap_or_else(|| Ending::without_verdict(problem.code)),
    });
    judged
}

/// `verdict`: how the verification ended, where there was one and the key is refused.
async fn judge(
    app: &App,
    peer: &Peer,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    verdict: &mut Option<Ending>,
) -> Result<Accepted, Problem> {
    let own = match (uri.scheme(), uri.authority(), uri.path_and_query()) {
        (None, None, Some(text)) => Cow::Borrowed(text.as_str()),
        _ => Cow::Owned(uri.to_string()),
    };
    let below = uri.path().strip_prefix(app.settings.base_path.as_str());
    let behind = below.and_then(|path| path.strip_prefix("/verify"));
    let behind = behind.unwrap_or("");
    // Envoy's way: no address of ours is asked, but ours and the client's in one.
    let one_address = !behind.is_empty();
    let raw = if one_address {
        ""
    } else {
        uri.query().unwrap_or("")
    };
    for address in addresses(headers).chain([Cow::Borrowed(&*own)]) {
        if let Some(exposed) = bearer::in_url(&address) {
            // Boxed, as all that is rare: what an answer may need is moved about with every request.
            return Err(Box::pin(refused_in_url(app, &exposed, peer.address)).await);
        }
    }
    let params = Params::parse(raw)
        .map_err(|repeated| Problem::bad_request("invalid_parameter", repeated.to_string()))?;
    let known = ["scope", "environment", "type", "cost"];
    if let Some((name, _)) = params.iter().find(|(name, _)| !known.contains(name)) {
        // A requirement with a typing error would let everybody through.
        let detail = format!("there is no parameter {name}");
        return Err(Problem::bad_request("unknown_parameter", detail));
    }
    let need = |wanted: &str| {
        let header = NEEDS.iter().find(|(name, _)| *name == wanted);
        let header = header.map(|(_, header)| asked_for(headers, header));
        let header = header.transpose()?.flatten();
        match (params.get(wanted), header) {
            (Some(_), Some(_)) => Err(Problem::bad_request(
                "invalid_parameter",
                format!("{wanted}: in the address or in a header, not in both"),
            )),
            (one, other) => Ok(one.or(other)),
        }
    };
    let types = need("type")?.unwrap_or("").split(',');
    let types = types.map(str::trim).filter(|one| !one.is_empty());
    let needs = Needs::read(need("scope")?, need("environment")?, types)?;
    let cost = params.get("cost").map(str::parse).transpose();
    let cost = cost.map_err(|_| Problem::bad_request("invalid_parameter", "cost: a number"))?;
    let Some((presented, _)) = bearer::find(headers)? else {
        return Err(
            Problem::unauthorized("credentials_missing", "this needs an API key")
                .with_challenge("Bearer".to_owned()),
        );
    };
    let written = METHODS.iter().find_map(|name| text(headers, name));
    let method = written.unwrap_or(if one_address { method.as_str() } else { "GET" });
    let asked = addresses(headers).next();
    let asked = asked.or(one_address.then_some(Cow::Borrowed(behind)));
    let route = asked.map(|address| format!("{method} {}", path_only(&address)));
    let request = VerifyRequest {
        presented,
        requirement: needs.requirement.as_ref(),
        environment: needs.environment.as_ref(),
        key_types: &needs.key_types,
        cost,
        credits: None,
        caller: Caller {
            address: Some(peer.address),
            origin: text(headers, "origin"),
            agent: Some(&peer.user_agent),
            route: route.as_deref(),
            client_label: text(headers, "x-client-label"),
        },
    };
    let peppers = peppers(app)?;
    let verification = app.registry.verify_api_key(&request, &peppers).await?;
    let Err(refused) = &verification.verdict else {
        let status = match one_address {
            true => StatusCode::OK,
            false => StatusCode::NO_CONTENT,
        };
        return Ok(Accepted {
            verification,
            status,
        });
    };
    *verdict = Some(Ending::of(&verification.verdict));
    Err(bearer::refusal(refused, &verification, app.now()))
}

/// All that headers say was asked for, also where a client wrote bytes that are no text: a key may stand beside.
fn addresses(headers: &HeaderMap) -> impl Iterator<Item = Cow<'_, str>> {
    let values = ADDRESSES
        .iter()
        .flat_map(move |name| headers.get_all(*name));
    values.map(|value| String::from_utf8_lossy(value.as_bytes()))
}

/// What a header of ours says is needed. It may come once: of two, one may be the client's, and which one is the
/// gateway's nobody could say.
///
/// # Errors
/// 400 `invalid_parameter`.
fn asked_for<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => Err(Problem::bad_request(
            "invalid_parameter",
            format!("{name}: once, as plain text"),
        )),
    }
}

/// Without a query, and without what could be an id in it: routes are counted, not requests.
fn path_only(address: &str) -> String {
    let path = address.split(['?', '#']).next().unwrap_or("");
    let is_id = |part: &str| part.len() > 24 || part.bytes().any(|byte| byte.is_ascii_digit());
    path.split('/')
        .map(|part| match is_id(part) && !is_version(part) {
            true => "*",
            false => part,
        })
        .collect::<Vec<_>>()
        .join("/")
}

/// `v1`, `v2024`: a part of an interface's address and no id.
fn is_version(part: &str) -> bool {
    let digits = part.strip_prefix('v').unwrap_or("");
    (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// A request that is let through.
pub(crate) struct Accepted {
    verification: Verification,
    status: StatusCode,
}

impl Accepted {
    /// What the log says of it.
    pub(crate) fn outcome(&self) -> Outcome {
        Outcome {
            kid: self.verification.kid,
            ..Outcome::of("valid")
        }
    }

    /// Says so. `headers` is where its headers find room.
    pub(crate) fn answer<B>(self, mut headers: HeaderMap, nothing: B) -> Response<B> {
        // Room for what every answer has.
        headers.reserve(20);
        let verification = &self.verification;
        let mut values = Values::new();
        let [key_id, kid, owner, scopes, retires_at] = ANSWERS;
        for (name, text) in [
            (key_id, verification.key_id.as_deref()),
            (kid, verification.kid.as_deref()),
            (owner, verification.owner.as_deref()),
        ] {
            values.set(&mut headers, name, text.unwrap_or(""));
        }
        match verification.scopes.as_deref() {
            Some(held) => values.set(&mut headers, scopes, held),
            None => values.set(&mut headers, scopes, ""),
        }
        if let Some(at) = verification.retires_at {
            values.set(&mut headers, retires_at, at);
        }
        if let Some(limit) = bearer::limit_of(verification) {
            limit.write(&mut headers, &mut values);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let mut response = Response::new(nothing);
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::path_only;

    #[test]
    fn routes_have_no_ids() {
        assert_eq!(path_only("/v1/orders/1234?x=1"), "/v1/orders/*");
        assert_eq!(path_only("/a/b"), "/a/b");
        let long = format!("/v{}/x", "a".repeat(30));
        for (address, route) in [
            ("/visitor-12345/orders", "/*/orders"),
            (long.as_str(), "/*/x"),
            ("/v2024/orders", "/v2024/orders"),
            ("/v20241128/v/v1a/v1.2", "/*/v/*/*"),
            ("/V1/visitors/ab7", "/*/visitors/*"),
            ("", ""),
        ] {
            assert_eq!(path_only(address), route, "{address}");
        }
    }
}
