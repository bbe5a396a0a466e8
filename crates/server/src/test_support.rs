//! What tests of this crate share: a server on a real registry in a temporary folder, asked without a
//! socket, with a clock that tests set.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use keywright_domain::SecretText;
use keywright_domain::audit::Actor;
use keywright_domain::people::{
    AuthMethod, ClientType, Email, NewClient, OAuthScopes, RoleName, TokenDigest,
};
use keywright_registry::people::{NewUser, User};
use keywright_registry::{Clock, LocalRegistry};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::browser_session::{self, Proof};
use crate::http::{Cookies, Peer};
use crate::operations::front::{AnswerBody, Front};
use crate::settings::Settings;
use crate::{FirstOwner, Server, ServerSecrets, set_up};

/// Every test begins at this moment (Unix ms).
pub(crate) const START: i64 = 1_800_000_000_000;
/// The owner that every test server has.
pub(crate) const OWNER_EMAIL: &str = "owner@example.org";
/// The password of everybody in tests.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A server under test.
pub(crate) struct TestServer {
    pub(crate) server: Server,
    pub(crate) router: Router,
    pub(crate) root_key: SecretText,
    clock: Arc<AtomicI64>,
    _folder: tempfile::TempDir,
}

impl TestServer {
    /// A server with an owner, on SQLite.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::build(change, true, START).await
    }

    /// The same by the time that it is: for others who look at their own clock.
    pub(crate) async fn now(change: impl FnOnce(&mut Settings)) -> Self {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap();
        let now = i64::try_from(since.as_millis()).unwrap();
        Self::build(change, true, now).await
    }

    /// A server that nobody set up yet, as `serve` makes it of an empty folder.
    pub(crate) async fn empty() -> Self {
        Self::build(|_| {}, false, START).await
    }

    async fn build(change: impl FnOnce(&mut Settings), with_owner: bool, start: i64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(start));
        let shared = Arc::clone(&clock);
        let time = Clock::from_fn(move || shared.load(Ordering::Relaxed));
        let mut settings =
            Settings::new("http://127.0.0.1:8377", folder.path().to_owned()).unwrap();
        settings.allow_private_addresses = true;
        change(&mut settings);
        let path = folder.path().join("db").join("registry.db");
        let registry = LocalRegistry::open(&path, time.clone()).await.unwrap();
        let secrets = ServerSecrets::create(&folder.path().join("secrets")).unwrap();
        let root_key = if with_owner {
            let hash = crate::PasswordHasher::new(1)
                .unwrap()
                .hash(&SecretText::new(PASSWORD.into()))
                .await
                .unwrap();
            let owner = FirstOwner {
                email: OWNER_EMAIL.into(),
                name: "Olive Owner".into(),
                password_hash: hash,
            };
            set_up(&registry, &secrets, &owner).await.unwrap()
        } else {
            crate::prepare(&registry, &secrets).await.unwrap();
            SecretText::new(String::new())
        };
        let server = Server::build(settings, registry, secrets, time)
            .await
            .unwrap();
        // Otherwise every proof of a test would need a nonce first.
        server.app().oauth2.extensions.own_seconds.run_for_long();
        Self {
            router: as_served(&server),
            server,
            root_key,
            clock,
            _folder: folder,
        }
    }

    /// The same registry and settings after the process was started again.
    pub(crate) async fn again(self) -> Self {
        let app = self.server.app();
        let (settings, path) = (app.settings.clone(), self._folder.path().to_owned());
        app.registry.close().await;
        let shared = Arc::clone(&self.clock);
        let time = Clock::from_fn(move || shared.load(Ordering::Relaxed));
        let database = path.join("db").join("registry.db");
        let registry = LocalRegistry::open(&database, time.clone()).await.unwrap();
        let secrets = ServerSecrets::open(&path.join("secrets")).unwrap();
        let server = Server::build(settings, registry, secrets, time)
            .await
            .unwrap();
        Self {
            router: as_served(&server),
            server,
            ..self
        }
    }

    /// Another process over the same file and secrets, and a browser at it.
    pub(crate) async fn beside(&self) -> (Server, Browser) {
        let (settings, path) = (self.server.app().settings.clone(), self._folder.path());
        let shared = Arc::clone(&self.clock);
        let time = Clock::from_fn(move || shared.load(Ordering::Relaxed));
        let database = path.join("db").join("registry.db");
        let registry = LocalRegistry::open(&database, time.clone()).await.unwrap();
        let secrets = ServerSecrets::open(&path.join("secrets")).unwrap();
        let server = Server::build(settings, registry, secrets, time)
            .await
            .unwrap();
        let browser = Browser {
            router: as_served(&server),
            cookies: Vec::new(),
        };
        (server, browser)
    }

    /// The registry behind it.
    pub(crate) fn registry(&self) -> &LocalRegistry {
        &self.server.app().registry
    }

    /// All files of its folder.
    pub(crate) fn files(&self) -> Vec<std::path::PathBuf> {
        let (mut files, mut folders) = (Vec::new(), vec![self._folder.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        files
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, ms: i64) {
        self.clock.fetch_add(ms, Ordering::Relaxed);
    }

    /// Adds a person with [`PASSWORD`].
    pub(crate) async fn add_user(&self, email: &str, roles: &[&str]) -> User {
        let hash = self
            .server
            .app()
            .passwords
            .hash(&SecretText::new(PASSWORD.into()))
            .await
            .unwrap();
        let new = NewUser {
            name: email.split('@').next().unwrap().to_owned(),
            email: Some(Email::new(email).unwrap()),
            email_verified: true,
            roles: roles
                .iter()
                .map(|role| RoleName::new(role).unwrap())
                .collect(),
            password_hash: Some(hash),
        };
        let actor = Actor::person("test");
        self.registry().create_user(&actor, &new).await.unwrap()
    }

    /// Adds a client: public without a secret, otherwise `client_secret_basic`.
    pub(crate) async fn add_client(
        &self,
        id: &str,
        secret: Option<&str>,
        change: impl FnOnce(&mut NewClient),
    ) {
        let mut new = NewClient {
            name: format!("Client {id}"),
            client_type: if secret.is_some() {
                ClientType::Confidential
            } else {
                ClientType::Public
            },
            auth_method: if secret.is_some() {
                AuthMethod::ClientSecretBasic
            } else {
                AuthMethod::None
            },
            jwks: None,
            redirect_uris: vec!["http://127.0.0.1/callback".into()],
            post_logout_redirect_uris: Vec::new(),
            backchannel_logout_uri: None,
            grant_types: vec!["authorization_code".into(), "refresh_token".into()],
            scopes: OAuthScopes::parse("openid profile email offline_access account").unwrap(),
            signing_alg: "RS256".into(),
            require_pkce: true,
            require_dpop: false,
            fapi: false,
        };
        change(&mut new);
        let digest = secret.map(|text| TokenDigest::of(&SecretText::new(text.to_owned())));
        self.registry()
            .add_client(&Actor::person("test"), id, &new, digest.as_ref())
            .await
            .unwrap();
    }

    /// A browser in which somebody is signed in, by password a moment ago.
    pub(crate) async fn sign_in_as(&self, user: &User) -> Browser {
        self.sign_in_by(user, "pwd").await
    }

    /// The same by another way of RFC 8176.
    pub(crate) async fn sign_in_by(&self, user: &User, amr: &str) -> Browser {
        self.sign_in_at(user, amr, browser_session::ACR_ONE).await
    }

    /// The same at another level.
    pub(crate) async fn sign_in_at(&self, user: &User, amr: &str, acr: &str) -> Browser {
        let peer = Peer {
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            user_agent: "Test browser".into(),
        };
        let proof = Proof {
            amr,
            acr,
            method: "password",
            identifier: user.email.as_ref().map_or("", Email::as_str),
            proven_at: Some(self.server.app().now()),
        };
        let app = self.server.app();
        let cookies = Cookies::read(&HeaderMap::new());
        let begun = browser_session::begin(app, &cookies, &peer, &user.id, &proof)
            .await
            .unwrap();
        let mut browser = self.browser();
        for value in begun.headers.get_all(header::SET_COOKIE) {
            browser.take_cookie(value.to_str().unwrap());
        }
        browser
    }

    /// A browser without cookies.
    pub(crate) fn browser(&self) -> Browser {
        Browser {
            router: self.router.clone(),
            cookies: Vec::new(),
        }
    }
}

/// The router with what is answered before it, as `serve` has them.
fn as_served(server: &Server) -> Router {
    let front = Arc::new(Front::new(server.app(), server.router()));
    let answer = move |request: Request<Body>| {
        let front = Arc::clone(&front);
        let connected = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let connected = connected.map(|info| info.0);
        async move {
            let answer = front.answer(connected, request).await;
            Ok::<_, Infallible>(answer.map(AnswerBody::into_body))
        }
    };
    Router::new().fallback_service(tower::service_fn(answer))
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON; null where it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// A header.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// `Location`.
    pub(crate) fn location(&self) -> &str {
        self.header("location")
    }

    /// Where a browser goes on by itself: `Location`, or a page with `Refresh`.
    pub(crate) fn leads_to(&self) -> &str {
        match self.header("refresh") {
            "" => self.location(),
            refresh => refresh.strip_prefix("0; url=").unwrap(),
        }
    }

    /// A parameter of the address that a browser goes on to.
    pub(crate) fn location_param(&self, name: &str) -> Option<String> {
        let base = url::Url::parse("http://127.0.0.1:8377").unwrap();
        let url = base.join(self.leads_to()).unwrap();
        url.query_pairs()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.into_owned())
    }

    /// The value of a hidden or other field of a form.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let at = self.text.find(&format!("name=\"{name}\""))?;
        let start = self.text[..at].rfind('<')?;
        let tag = &self.text[start..start + self.text[start..].find('>')?];
        let value = tag.split("value=\"").nth(1)?.split('"').next()?;
        Some(value.replace("&amp;", "&"))
    }
}

/// A browser: it keeps cookies and follows nothing by itself.
#[derive(Clone)]
pub(crate) struct Browser {
    router: Router,
    pub(crate) cookies: Vec<(String, String)>,
}

impl Browser {
    /// GET.
    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Body::empty()).await
    }

    /// POST of a form, with the token of the CSRF cookie as a field where there is one.
    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let csrf = self.cookie("csrf_token").map(str::to_owned);
        // Not held over the request: it cannot be sent to another thread.
        let body = {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in fields {
                form.append_pair(name, value);
            }
            if let Some(token) =
                csrf.filter(|_| !fields.iter().any(|(name, _)| *name == "csrf_token"))
            {
                form.append_pair("csrf_token", &token);
            }
            form.finish()
        };
        let kind = ("content-type", "application/x-www-form-urlencoded");
        self.send(Method::POST, path, &[kind], Body::from(body))
            .await
    }

    /// JSON with a method, and the CSRF token in the header where there is one.
    pub(crate) async fn json(&mut self, method: Method, path: &str, body: &Value) -> Answer {
        let csrf = self
            .cookie("csrf_token")
            .map(str::to_owned)
            .unwrap_or_default();
        let headers = [
            ("content-type", "application/json"),
            ("x-csrf-token", csrf.as_str()),
        ];
        self.send(method, path, &headers, Body::from(body.to_string()))
            .await
    }

    /// Any request.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        if !self.cookies.is_empty() {
            let pairs: Vec<_> = self
                .cookies
                .iter()
                .map(|(n, v)| format!("{n}={v}"))
                .collect();
            request = request.header(header::COOKIE, pairs.join("; "));
        }
        let response = self
            .router
            .clone()
            .oneshot(request.body(body).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        for value in parts.headers.get_all(header::SET_COOKIE) {
            self.take_cookie(value.to_str().unwrap());
        }
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
        }
    }

    /// A cookie's value.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.cookies
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }

    fn take_cookie(&mut self, text: &str) {
        let pair = text.split(';').next().unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        self.cookies.retain(|(own, _)| own != name);
        if !value.is_empty() && !text.contains("Max-Age=0") {
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
    }
}
