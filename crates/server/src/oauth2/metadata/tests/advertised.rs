//! AC-066: whatever the discovery document names is used by a test. Its lists are read from the document itself,
//! and each value is used the way a client would; one that nothing here knows how to use fails. What is no
//! list is named in [`USED_BY`], and a member that is in neither fails too.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use keywright_domain::people::{AuthMethod, ClientType, NewClient, OAuthScopes};
use keywright_registry::people::User;

use super::client_keys::ClientKey;
use super::*;
use crate::oauth2::client_assertion::TYPE;
use crate::oauth2::testing::{
    REDIRECT, VERIFIER, authorize, authorize_path, basic, code, consent, error, exchange, part,
    refresh, text, token_request, userinfo,
};
use crate::oauth2::token::DEVICE;
use crate::test_support::{Answer, Browser, START};

const SECRET: &str = "a-secret-of-a-client-that-nobody-guesses";
const RESOURCE: &str = "https://api.example.com";

/// Members of the document, and the tests that use each of their values.
const USED_BY: &[(&str, &[&str])] = &[
    ("issuer", &["s37_both_forms_name_the_issuer_byte_for_byte"]),
    (
        "authorization_endpoint",
        &["s11_s12_a_code_comes_with_state_and_iss"],
    ),
    (
        "token_endpoint",
        &["s17_s20_s21_s40_ac_044_ac_065_the_answer_of_a_code"],
    ),
    (
        "userinfo_endpoint",
        &["s39_ac_043_get_and_post_tell_what_the_scopes_allow"],
    ),
    (
        "jwks_uri",
        &["ac_066_id_tokens_verify_by_the_published_keys_in_every_algorithm"],
    ),
    (
        "introspection_endpoint",
        &["s33_s35_ac_096_who_may_know_hears_what_the_token_is"],
    ),
    (
        "revocation_endpoint",
        &["s31_ac_095_a_refresh_token_takes_its_access_tokens_with_it_at_once"],
    ),
    (
        "device_authorization_endpoint",
        &["s52_s53_the_code_is_shown_and_confirmed_and_gives_tokens_once"],
    ),
    (
        "pushed_authorization_request_endpoint",
        &["s57_a_pushed_request_is_good_once_and_for_its_client"],
    ),
    (
        "registration_endpoint",
        &["s60_a_client_is_registered_with_its_secret_and_its_management"],
    ),
    (
        "end_session_endpoint",
        &["s42_s43_s45_with_our_id_token_it_is_done_at_once"],
    ),
    (
        "response_types_supported",
        &["ac_066_every_way_of_asking_and_answering_works"],
    ),
    (
        "response_modes_supported",
        &["ac_066_every_way_of_asking_and_answering_works"],
    ),
    (
        "code_challenge_methods_supported",
        &["ac_066_every_way_of_asking_and_answering_works"],
    ),
    (
        "prompt_values_supported",
        &["ac_066_every_prompt_asks_for_what_it_says"],
    ),
    (
        "acr_values_supported",
        &["ac_066_every_level_is_asked_for_and_reached"],
    ),
    (
        "grant_types_supported",
        &["ac_066_every_grant_gives_a_token"],
    ),
    (
        "subject_types_supported",
        &["ac_066_every_claim_and_scope_tells_something"],
    ),
    (
        "scopes_supported",
        &["ac_066_every_claim_and_scope_tells_something"],
    ),
    (
        "claims_supported",
        &["ac_066_every_claim_and_scope_tells_something"],
    ),
    (
        "claim_types_supported",
        &["ac_066_every_claim_and_scope_tells_something"],
    ),
    (
        "claims_parameter_supported",
        &["claims_by_name_come_by_their_scope_if_the_client_may_have_it"],
    ),
    (
        "request_parameter_supported",
        &["ac_059_ac_060_s11_errors_go_to_the_client_with_state_and_iss"],
    ),
    (
        "request_uri_parameter_supported",
        &["ac_059_ac_060_s11_errors_go_to_the_client_with_state_and_iss"],
    ),
    (
        "require_pushed_authorization_requests",
        &["s11_s12_a_code_comes_with_state_and_iss"],
    ),
    (
        "authorization_response_iss_parameter_supported",
        &["s11_s12_a_code_comes_with_state_and_iss"],
    ),
    (
        "id_token_signing_alg_values_supported",
        &["ac_066_id_tokens_verify_by_the_published_keys_in_every_algorithm"],
    ),
    (
        "token_endpoint_auth_methods_supported",
        &["ac_066_clients_prove_themselves_in_every_way_at_every_endpoint"],
    ),
    (
        "introspection_endpoint_auth_methods_supported",
        &["ac_066_clients_prove_themselves_in_every_way_at_every_endpoint"],
    ),
    (
        "revocation_endpoint_auth_methods_supported",
        &["ac_066_clients_prove_themselves_in_every_way_at_every_endpoint"],
    ),
    (
        "token_endpoint_auth_signing_alg_values_supported",
        &["ac_066_clients_sign_with_every_algorithm_at_every_endpoint"],
    ),
    (
        "introspection_endpoint_auth_signing_alg_values_supported",
        &["ac_066_clients_sign_with_every_algorithm_at_every_endpoint"],
    ),
    (
        "revocation_endpoint_auth_signing_alg_values_supported",
        &["ac_066_clients_sign_with_every_algorithm_at_every_endpoint"],
    ),
    (
        "dpop_signing_alg_values_supported",
        &["ac_066_proofs_of_every_algorithm_bind_tokens"],
    ),
    (
        "backchannel_logout_supported",
        &["s48_s50_every_client_of_the_session_gets_its_logout_token"],
    ),
    (
        "backchannel_logout_session_supported",
        &["s48_s50_every_client_of_the_session_gets_its_logout_token"],
    ),
    (
        "protected_resources",
        &["s28_s59_ac_033_a_token_is_for_the_resource_that_was_granted"],
    ),
];

async fn start() -> (TestServer, User, Browser) {
    let server = TestServer::with(|settings| settings.resources = vec![RESOURCE.into()]).await;
    server.add_client("app", None, |_| {}).await;
    let user = server.add_user("ada@example.org", &[]).await;
    let browser = server.sign_in_as(&user).await;
    (server, user, browser)
}

async fn document(server: &TestServer) -> Value {
    server.browser().get(OPENID).await.json()
}

/// The values of a list of the document, never none.
async fn listed(server: &TestServer, member: &str) -> Vec<String> {
    let document = document(server).await;
    let values = document[member].as_array().unwrap().iter();
    let values: Vec<_> = values
        .map(|value| value.as_str().unwrap().to_owned())
        .collect();
    assert!(!values.is_empty(), "{member}");
    values
}

fn unknown(member: &str, value: &str) -> ! {
    panic!("{member} advertises {value}, and no test uses it")
}

/// Functions after a test attribute, in all sources.
fn tests_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let waiting = text.split("#[tokio::test").skip(1);
            for part in waiting.chain(text.split("#[test]").skip(1)) {
                let name = part
                    .split_once("fn ")
                    .and_then(|(_, rest)| rest.split_once('('));
                found.extend(name.map(|(name, _)| name.to_owned()));
            }
        }
    }
}

#[tokio::test]
async fn ac_066_no_member_is_advertised_that_no_test_names() {
    let (server, ..) = start().await;
    let document = document(&server).await;
    let advertised: BTreeSet<_> = document.as_object().unwrap().keys().cloned().collect();
    let named: BTreeSet<_> = USED_BY.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(advertised, named);
    let mut tests = BTreeSet::new();
    tests_in(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut tests,
    );
    assert!(tests.len() > 300, "{}", tests.len());
    for (member, names) in USED_BY {
        assert!(!names.is_empty(), "{member}");
        for name in *names {
            assert!(tests.contains(*name), "{member}: there is no test {name}");
            // A list is used value by value, in this file.
            let here = name.starts_with("ac_066_");
            let is_list = document[*member].is_array() && *member != "protected_resources";
            assert!(here || !is_list, "{member}: {name}");
        }
    }
}

#[tokio::test]
async fn ac_066_every_grant_gives_a_token() {
    let (server, user, mut browser) = start().await;
    server
        .add_client("machine", Some(SECRET), |new| {
            new.grant_types = vec!["client_credentials".into()];
            new.scopes = OAuthScopes::parse("keys:read").unwrap();
        })
        .await;
    server
        .add_client("tv", None, |new| new.grant_types.push(DEVICE.into()))
        .await;
    for grant in listed(&server, "grant_types_supported").await {
        let tokens = match grant.as_str() {
            "authorization_code" => {
                let code = code(&mut browser, &[]).await;
                exchange(&server, &code, &[("grant_type", &grant)]).await
            }
            "refresh_token" => {
                let code = code(&mut browser, &[]).await;
                let first = exchange(&server, &code, &[]).await;
                let token = text(&first, "refresh_token");
                refresh(&server, &token, &[("grant_type", &grant)]).await
            }
            "client_credentials" => {
                let header = basic("machine", SECRET);
                let headers = [("authorization", header.as_str())];
                token_request(&server, &headers, format!("grant_type={grant}")).await
            }
            DEVICE => {
                let fields = [("client_id", "tv"), ("scope", "openid")];
                let path = "/oauth2/device_authorization";
                let begun = server.browser().post(path, &fields).await;
                let (device, user_code) = (text(&begun, "device_code"), text(&begun, "user_code"));
                let fields = [("user_code", user_code.as_str()), ("decision", "allow")];
                browser.post("/device", &fields).await;
                let form = format!("grant_type={grant}&client_id=tv&device_code={device}");
                token_request(&server, &[], form).await
            }
            other => unknown("grant_types_supported", other),
        };
        assert_eq!(tokens.status, StatusCode::OK, "{grant}: {}", tokens.text);
        let claims = part(&text(&tokens, "access_token"), 1);
        let wanted = match grant.as_str() {
            "client_credentials" => "client:machine",
            _ => user.id.as_str(),
        };
        assert_eq!(claims["sub"], wanted, "{grant}");
    }
}

#[tokio::test]
async fn ac_066_every_way_of_asking_and_answering_works() {
    let (server, _user, mut browser) = start().await;
    authorize(&mut browser, &[]).await;
    for kind in listed(&server, "response_types_supported").await {
        for method in listed(&server, "code_challenge_methods_supported").await {
            for mode in listed(&server, "response_modes_supported").await {
                let changes = [
                    ("response_type", kind.as_str()),
                    ("code_challenge_method", method.as_str()),
                    ("response_mode", mode.as_str()),
                ];
                let answer = browser.get(&authorize_path(&changes)).await;
                let code = match (kind.as_str(), mode.as_str()) {
                    ("code", "query") => answer.location_param("code"),
                    ("code", "form_post") => answer.field("code"),
                    ("code", other) => unknown("response_modes_supported", other),
                    (other, _) => unknown("response_types_supported", other),
                };
                let code = code.unwrap_or_else(|| panic!("{mode}: {}", answer.text));
                // By S256 the challenge of these tests is this verifier's, and no other's.
                let other = VERIFIER.replace('d', "e");
                let tokens = exchange(&server, &code, &[]).await;
                assert_eq!(tokens.status, StatusCode::OK, "{mode}: {}", tokens.text);
                let answer = browser.get(&authorize_path(&changes)).await;
                let code = answer
                    .location_param("code")
                    .or_else(|| answer.field("code"));
                let code = code.unwrap();
                let refused = exchange(&server, &code, &[("code_verifier", &other)]).await;
                assert_eq!(error(&refused), "invalid_grant", "{method}");
            }
        }
    }
}

#[tokio::test]
async fn ac_066_every_prompt_asks_for_what_it_says() {
    let (server, _user, mut browser) = start().await;
    authorize(&mut browser, &[]).await;
    server.pass(1_000);
    for prompt in listed(&server, "prompt_values_supported").await {
        let path = authorize_path(&[("prompt", &prompt)]);
        let known = browser.get(&path).await;
        let stranger = server.browser().get(&path).await;
        match prompt.as_str() {
            "none" => {
                assert!(known.location_param("code").is_some(), "{}", known.text);
                let refused = stranger.location_param("error");
                assert_eq!(refused.as_deref(), Some("login_required"));
            }
            "login" | "select_account" => {
                for answer in [&known, &stranger] {
                    assert!(answer.location().starts_with("/sign-in?"), "{prompt}");
                    assert_eq!(answer.location_param("again").as_deref(), Some("1"));
                }
            }
            "consent" => {
                let answer = consent(&mut browser, &known, "allow").await;
                assert!(answer.location_param("code").is_some(), "{}", answer.text);
                assert!(stranger.location().starts_with("/sign-in?"));
            }
            other => unknown("prompt_values_supported", other),
        }
    }
}

#[tokio::test]
async fn ac_066_every_level_is_asked_for_and_reached() {
    let (server, user, _browser) = start().await;
    for level in listed(&server, "acr_values_supported").await {
        // How somebody signs in who reaches it, and whether less is not enough.
        let (amr, is_higher) = match level.as_str() {
            "aal1" => ("pwd", false),
            "aal2" => ("pwd otp mfa", true),
            other => unknown("acr_values_supported", other),
        };
        let changes = [("acr_values", level.as_str())];
        let mut low = server.sign_in_as(&user).await;
        let asked = authorize(&mut low, &changes).await;
        let stepped_up = asked.location_param("acr").as_deref() == Some(level.as_str());
        assert_eq!(stepped_up, is_higher, "{level}: {}", asked.location());
        let mut browser = server.sign_in_at(&user, amr, &level).await;
        let code = code(&mut browser, &changes).await;
        let claims = part(&text(&exchange(&server, &code, &[]).await, "id_token"), 1);
        assert_eq!(claims["acr"], level.as_str());
    }
}

#[tokio::test]
async fn ac_066_every_claim_and_scope_tells_something() {
    let (server, user, mut browser) = start().await;
    let given = code(&mut browser, &[]).await;
    let tokens = exchange(&server, &given, &[]).await;
    let id_token = part(&text(&tokens, "id_token"), 1);
    let info = userinfo(&server, &text(&tokens, "access_token"))
        .await
        .json();
    let names = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let advertised: BTreeSet<_> = listed(&server, "claims_supported")
        .await
        .into_iter()
        .collect();
    // What is said is advertised, and what is advertised is said.
    assert_eq!(advertised, &names(&id_token) | &names(&info));
    for kind in listed(&server, "claim_types_supported").await {
        match kind.as_str() {
            "normal" => assert_eq!(id_token["name"], "ada"),
            other => unknown("claim_types_supported", other),
        }
    }
    for kind in listed(&server, "subject_types_supported").await {
        match kind.as_str() {
            // Every client knows a person by the same name.
            "public" => {
                server.add_client("other", None, |_| {}).await;
                let code = code(&mut browser, &[("client_id", "other")]).await;
                let tokens = exchange(&server, &code, &[("client_id", "other")]).await;
                let theirs = part(&text(&tokens, "id_token"), 1);
                assert_eq!(theirs["sub"], user.id.as_str());
                assert_eq!(theirs["sub"], id_token["sub"]);
            }
            other => unknown("subject_types_supported", other),
        }
    }
    for scope in listed(&server, "scopes_supported").await {
        let asked = match scope.as_str() {
            "openid" => scope.clone(),
            _ => format!("openid {scope}"),
        };
        let code = code(&mut browser, &[("scope", &asked)]).await;
        let tokens = exchange(&server, &code, &[]).await;
        assert!(text(&tokens, "scope").contains(&scope), "{}", tokens.text);
        let access = text(&tokens, "access_token");
        let info = userinfo(&server, &access).await.json();
        let does = match scope.as_str() {
            "openid" => tokens.json()["id_token"].is_string(),
            "profile" => info["name"] == "ada" && info.get("email").is_none(),
            "email" => info["email"] == "ada@example.org" && info.get("name").is_none(),
            "offline_access" => tokens.json()["refresh_token"].is_string(),
            "account" => {
                let bearer = format!("Bearer {access}");
                let headers = [("authorization", bearer.as_str())];
                let mut program = server.browser();
                let path = "/api/v1/sessions";
                let list = program.send(Method::GET, path, &headers, Body::empty());
                list.await.status == StatusCode::OK
            }
            other => unknown("scopes_supported", other),
        };
        assert!(does, "{scope}: {} {info}", tokens.text);
    }
}

#[tokio::test]
async fn ac_066_id_tokens_verify_by_the_published_keys_in_every_algorithm() {
    let (server, _user, mut browser) = start().await;
    let document = document(&server).await;
    let keys = document["jwks_uri"].as_str().unwrap();
    let keys = browser.get(keys.strip_prefix(ISSUER).unwrap()).await.json();
    for alg in listed(&server, "id_token_signing_alg_values_supported").await {
        let algorithm: Algorithm = alg
            .parse()
            .unwrap_or_else(|_| unknown("id_token_signing_alg_values_supported", &alg));
        server
            .add_client(&alg, None, |new| new.signing_alg = alg.clone())
            .await;
        let changes = [("client_id", alg.as_str())];
        let code = code(&mut browser, &changes).await;
        let token = text(&exchange(&server, &code, &changes).await, "id_token");
        let kid = part(&token, 0)["kid"].clone();
        let mut published = keys["keys"].as_array().unwrap().iter();
        let jwk = published.find(|key| key["kid"] == kid).unwrap().clone();
        assert_eq!(jwk["alg"], alg.as_str());
        // By somebody else's library.
        let key = DecodingKey::from_jwk(&serde_json::from_value(jwk).unwrap()).unwrap();
        let mut wanted = Validation::new(algorithm);
        wanted.set_audience(&[&alg]);
        wanted.set_issuer(&[ISSUER]);
        wanted.validate_exp = false;
        let claims = decode::<Value>(&token, &key, &wanted).unwrap().claims;
        assert_eq!(claims["nonce"], "n-1");
        let changed = token.replacen('.', ".e", 1);
        assert!(decode::<Value>(&changed, &key, &wanted).is_err());
    }
}

/// Whether an endpoint believed who asked: a refusal of the client is told from what it was asked for.
fn believed(answer: &Answer) -> bool {
    match answer.json()["error"].as_str() {
        Some("invalid_client") => {
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text);
            false
        }
        _ => {
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
            true
        }
    }
}

/// Asks an endpoint for something that every client may ask for there. A public client has nothing to ask for
/// at the token endpoint but a code's worth.
async fn ask(
    server: &TestServer,
    endpoint: &str,
    headers: &[(&str, &str)],
    proof: &[(&str, &str)],
    code: Option<&str>,
) -> Answer {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(proof);
    match (endpoint, code) {
        ("token", Some(code)) => {
            form.append_pair("grant_type", "authorization_code");
            form.append_pair("code", code);
            form.append_pair("redirect_uri", REDIRECT);
            form.append_pair("code_verifier", VERIFIER);
        }
        ("token", None) => {
            form.append_pair("grant_type", "client_credentials");
        }
        _ => {
            form.append_pair("token", "x");
        }
    }
    let path = match endpoint {
        "token" => "/oauth2/token",
        "introspection" => "/oauth2/introspect",
        _ => "/oauth2/revoke",
    };
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let headers: Vec<_> = [kind].into_iter().chain(headers.iter().copied()).collect();
    let body = Body::from(form.finish());
    let mut client = server.browser();
    client.send(Method::POST, path, &headers, body).await
}

const ENDPOINTS: [&str; 3] = ["token", "introspection", "revocation"];

fn machine(new: &mut NewClient) {
    new.grant_types.push("client_credentials".into());
    new.scopes = OAuthScopes::parse("keys:read").unwrap();
}

fn signs_with(key: &ClientKey) -> impl FnOnce(&mut NewClient) {
    let keys = json!({ "keys": [key.jwk] }).to_string();
    move |new| {
        machine(new);
        new.client_type = ClientType::Confidential;
        new.auth_method = AuthMethod::PrivateKeyJwt;
        new.jwks = Some(keys);
    }
}

fn assertion(key: &ClientKey, client: &str, jti: &str) -> String {
    let claims = json!({
        "iss": client, "sub": client, "aud": ISSUER, "jti": jti, "iat": START / 1000,
        "exp": START / 1000 + 300,
    });
    key.sign(json!({}), &claims)
}

#[tokio::test]
async fn ac_066_clients_prove_themselves_in_every_way_at_every_endpoint() {
    let (server, _user, mut browser) = start().await;
    let (own, foreign) = (ClientKey::new("ES256"), ClientKey::new("ES256"));
    server.add_client("basic", Some(SECRET), machine).await;
    server
        .add_client("post", Some(SECRET), |new| {
            machine(new);
            new.auth_method = AuthMethod::ClientSecretPost;
        })
        .await;
    server.add_client("jwt", None, signs_with(&own)).await;
    for endpoint in ENDPOINTS {
        let member = format!("{endpoint}_endpoint_auth_methods_supported");
        for method in listed(&server, &member).await {
            for good in [true, false] {
                let secret = if good { SECRET } else { "wrong" };
                let answer = match method.as_str() {
                    "client_secret_basic" => {
                        let header = basic("basic", secret);
                        let headers = [("authorization", header.as_str())];
                        ask(&server, endpoint, &headers, &[], None).await
                    }
                    "client_secret_post" => {
                        let proof = [("client_id", "post"), ("client_secret", secret)];
                        ask(&server, endpoint, &[], &proof, None).await
                    }
                    "private_key_jwt" => {
                        let key = if good { &own } else { &foreign };
                        let signed = assertion(key, "jwt", &format!("{endpoint} {good}"));
                        let proof = [
                            ("client_assertion_type", TYPE),
                            ("client_assertion", signed.as_str()),
                        ];
                        ask(&server, endpoint, &[], &proof, None).await
                    }
                    // Nothing to prove: it must be registered so, and one that is not gets nothing by it.
                    "none" => {
                        let code = code(&mut browser, &[]).await;
                        let id = if good { "app" } else { "basic" };
                        let proof = [("client_id", id)];
                        ask(&server, endpoint, &[], &proof, Some(&code)).await
                    }
                    other => unknown(&member, other),
                };
                assert_eq!(believed(&answer), good, "{endpoint}: {method}");
            }
        }
    }
}

#[tokio::test]
async fn ac_066_clients_sign_with_every_algorithm_at_every_endpoint() {
    let (server, ..) = start().await;
    for alg in listed(&server, "token_endpoint_auth_signing_alg_values_supported").await {
        let (own, foreign) = (ClientKey::new(&alg), ClientKey::new(&alg));
        server.add_client(&alg, None, signs_with(&own)).await;
        for endpoint in ENDPOINTS {
            // The same list everywhere, so that nothing is named at one that is tried at another.
            let member = format!("{endpoint}_endpoint_auth_signing_alg_values_supported");
            let same = listed(&server, "token_endpoint_auth_signing_alg_values_supported").await;
            assert_eq!(listed(&server, &member).await, same);
            for (key, good) in [(&own, true), (&foreign, false)] {
                let signed = assertion(key, &alg, &format!("{endpoint} {good}"));
                let proof = [
                    ("client_assertion_type", TYPE),
                    ("client_assertion", signed.as_str()),
                ];
                let answer = ask(&server, endpoint, &[], &proof, None).await;
                assert_eq!(believed(&answer), good, "{endpoint}: {alg}");
            }
        }
    }
}

#[tokio::test]
async fn ac_066_proofs_of_every_algorithm_bind_tokens() {
    let (server, _user, mut browser) = start().await;
    for alg in listed(&server, "dpop_signing_alg_values_supported").await {
        let (own, foreign) = (ClientKey::new(&alg), ClientKey::new(&alg));
        let claims = |jti: &str| {
            json!({
                "jti": format!("{alg} {jti}"), "htm": "POST", "htu": format!("{ISSUER}/oauth2/token"),
                "iat": START / 1000,
            })
        };
        let header = || json!({ "typ": "dpop+jwt", "jwk": own.jwk });
        let code = code(&mut browser, &[]).await;
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("code", code.as_str()),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        // Signed by another key than the one that it names.
        let forged = foreign.sign(header(), &claims("forged"));
        let refused = token_request(&server, &[("dpop", &forged)], form.clone()).await;
        assert_eq!(error(&refused), "invalid_dpop_proof", "{alg}");
        let proof = own.sign(header(), &claims("good"));
        let tokens = token_request(&server, &[("dpop", &proof)], form).await;
        assert_eq!(tokens.status, StatusCode::OK, "{alg}: {}", tokens.text);
        assert_eq!(text(&tokens, "token_type"), "DPoP");
        let thumbprint = crate::oauth2::client_jws::thumbprint(own.jwk.as_object().unwrap());
        let bound = part(&text(&tokens, "access_token"), 1)["cnf"]["jkt"].clone();
        assert_eq!(bound.as_str(), thumbprint.as_deref(), "{alg}");
    }
}
