//! The server's settings: one file (`server.toml`), environment variables and flags, in that order of
//! precedence from below. Anything unsafe is refused by the setting's name before anything starts.

mod checks;
mod file;
pub mod mail;
pub mod retention;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use keywright_domain::issuer::Issuer;
use keywright_domain::people::{LONGEST_ACCESS_MS, RefreshLives, SessionLives};
use keywright_registry::{RegistryError, postgres_transport};
use url::{Host, Url};

pub use file::{FileError, SettingsFile, collector};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const LONGEST_DRAIN: Duration = Duration::from_secs(600);

/// `SameSite` of the session cookie. The refresh and CSRF cookies are always strict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// Sent when somebody follows a link to us.
    #[default]
    Lax,
    /// Not sent then: stronger, and signs people out who come by a link.
    Strict,
}

/// Who may make an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SignUp {
    /// Only who was invited.
    #[default]
    Invited,
    /// Whoever an identity provider vouches for; they get these roles.
    ByProvider(Vec<String>),
}

/// What becomes of requests with keys that have limits while Redis does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WithoutRedis {
    /// Each node counts by itself: with N nodes, at most N times as many pass.
    #[default]
    PerNode,
    /// They are refused (503).
    Refuse,
}

/// Settings that were checked. Times are milliseconds where the name says so.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The issuer, byte for byte (RFC 8414 §2): never derived from a request.
    pub issuer: Issuer,
    /// Where requests are taken.
    pub listen: SocketAddr,
    /// Path under which everything is mounted; empty, or `/…` without a closing slash. It follows
    /// from the issuer's path.
    pub base_path: String,
    /// Folder of the embedded database and the secrets.
    pub data: PathBuf,
    /// PostgreSQL's address; none for the embedded database.
    pub database: Option<DatabaseAddress>,
    /// Certificate and key (PEM); none where a proxy does TLS or the issuer is this machine.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<IpNet>,
    /// How long access tokens live.
    pub access_ms: i64,
    /// How long authorization codes live.
    pub code_ms: i64,
    /// How long refresh tokens live.
    pub refresh: RefreshLives,
    /// How long browser sessions live.
    pub sessions: SessionLives,
    /// How many sessions one person may have; the oldest ends when there is one more.
    pub max_sessions: usize,
    /// `SameSite` of the session cookie.
    pub same_site: SameSite,
    /// Who may make an account.
    pub sign_up: SignUp,
    /// How long a signing key signs before the next takes its place.
    pub signing_key_ms: i64,
    /// How long a signing key is published before it signs.
    pub signing_key_publish_ms: i64,
    /// Whether addresses of this machine and private networks may be asked (identity providers,
    /// back-channel logout). For development and tests.
    pub allow_private_addresses: bool,
    /// Whether `/authorize` and `/token` stand beside `/oauth2/…`.
    pub short_aliases: bool,
    /// How long requests in progress are waited for at the end.
    pub drain: Duration,
    /// How long readiness says no before connections are refused at the end.
    pub drain_notice: Duration,
    /// Where `/metrics`, `/healthz` and `/readyz` are served alone; none for beside the rest.
    pub metrics_listen: Option<SocketAddr>,
    /// Networks, beside this machine, that may read `/metrics` where it stands beside the rest.
    pub metrics_allow: Vec<IpNet>,
    /// Where traces are sent (OTLP over HTTP, `/v1/traces` below it); none for nowhere.
    pub otlp_endpoint: Option<Url>,
    /// How many requests of a hundred are traced.
    pub otlp_sample_percent: u32,
    /// Whether the log is one JSON object a line; otherwise text.
    pub log_json: bool,
    /// Text in place of “Keywright” on pages.
    pub site_name: String,
    /// Resources besides our own API that access tokens may be made for (RFC 8707), byte for byte.
    pub resources: Vec<String>,
    /// What this process is called among several over one database.
    pub node_name: String,
    /// A Redis that counts rate limits for all nodes; none for each by itself.
    pub redis_url: Option<DatabaseAddress>,
    /// PEM file with the authorities that vouch for it where it speaks TLS; none for the system's.
    pub redis_ca: Option<PathBuf>,
    /// What happens while it does not answer.
    pub limits_without_redis: WithoutRedis,
    /// How long what is over is kept.
    pub retention: retention::Retention,
    /// The mail server; none for no mail.
    pub mail: Option<mail::MailSettings>,
    /// Where GitHub publishes the keys that it signs reports of found keys with; none: its reports are
    /// not taken.
    pub github_keys_url: Option<url::Url>,
}

/// The address of a database; it may hold a password.
#[derive(Clone)]
pub struct DatabaseAddress(String);

impl DatabaseAddress {
    /// Takes an address.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The address.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for DatabaseAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseAddress(redacted)")
    }
}

/// A setting that is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {why}")]
pub struct SettingError {
    /// The setting's name in the file.
    pub setting: &'static str,
    /// Why, and what is allowed.
    pub why: String,
}

impl SettingError {
    pub(crate) fn new(setting: &'static str, why: impl Into<String>) -> Self {
        Self {
            setting,
            why: why.into(),
        }
    }
}

/// Traces tell who asks for what and when: in the clear they stay on this machine.
fn check_collector(endpoint: &Url) -> Result<(), SettingError> {
    let is_here = match endpoint.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let why = match endpoint.scheme() {
        "https" | "http"
            if !endpoint.username().is_empty()
                || endpoint.password().is_some()
                || endpoint.query().is_some()
                || endpoint.fragment().is_some() =>
        {
            "it has a name, a password, a query or a fragment"
        }
        "https" => return Ok(()),
        "http" if is_here => return Ok(()),
        "http" => {
            "plain http is for this machine only: use https, or a collector beside the server"
        }
        _ => "it is no https address",
    };
    Err(SettingError::new("telemetry.otlp_endpoint", why))
}

impl Settings {
    /// Defaults for an issuer and a data folder.
    ///
    /// # Errors
    /// [`SettingError`] for an issuer that is none.
    pub fn new(issuer: &str, data: PathBuf) -> Result<Self, SettingError> {
        let issuer = Issuer::parse(issuer)
            .map_err(|error| SettingError::new("issuer", error.to_string()))?;
        if issuer.as_str().ends_with('/') {
            return Err(SettingError::new("issuer", "it must not end with a slash"));
        }
        let authority = issuer
            .as_str()
            .split_once("://")
            .map_or("", |(_, rest)| rest);
        let base_path = authority
            .find('/')
            .map_or(String::new(), |at| authority[at..].to_owned());
        Ok(Self {
            base_path,
            listen: SocketAddr::from(([127, 0, 0, 1], 8377)),
            data,
            database: None,
            tls: None,
            trusted_proxies: Vec::new(),
            access_ms: 900_000,
            code_ms: 60_000,
            refresh: RefreshLives::default(),
            sessions: SessionLives::default(),
            max_sessions: 20,
            same_site: SameSite::Lax,
            sign_up: SignUp::Invited,
            signing_key_ms: 90 * DAY_MS,
            signing_key_publish_ms: DAY_MS,
            allow_private_addresses: false,
            short_aliases: false,
            drain: Duration::from_secs(20),
            drain_notice: Duration::ZERO,
            metrics_listen: None,
            metrics_allow: Vec::new(),
            otlp_endpoint: None,
            otlp_sample_percent: 100,
            log_json: true,
            site_name: "Keywright".to_owned(),
            resources: Vec::new(),
            node_name: machine_name(),
            redis_url: None,
            redis_ca: None,
            limits_without_redis: WithoutRedis::PerNode,
            retention: retention::Retention::default(),
            mail: None,
            github_keys_url: None,
            issuer,
        })
    }

    /// Checks what depends on several settings, and every bound.
    ///
    /// # Errors
    /// [`SettingError`], the first one.
    pub fn check(self) -> Result<Self, SettingError> {
        let secs = |ms: i64| ms / 1000;
        if !(300_000..=LONGEST_ACCESS_MS).contains(&self.access_ms) {
            let why = format!("{} s is not within 300 and 3600 s", secs(self.access_ms));
            return Err(SettingError::new("tokens.access_s", why));
        }
        if !(10_000..=600_000).contains(&self.code_ms) {
            let why = format!("{} s is not within 10 and 600 s", secs(self.code_ms));
            return Err(SettingError::new("tokens.code_s", why));
        }
        if !(7 * DAY_MS..=30 * DAY_MS).contains(&self.refresh.idle_ms) {
            return Err(SettingError::new(
                "tokens.refresh_idle_days",
                "allowed are 7 to 30",
            ));
        }
        if !(7 * DAY_MS..=90 * DAY_MS).contains(&self.refresh.absolute_ms)
            || self.refresh.absolute_ms < self.refresh.idle_ms
        {
            let why = "allowed are 7 to 90, and no less than refresh_idle_days";
            return Err(SettingError::new("tokens.refresh_days", why));
        }
        if !(0..=60_000).contains(&self.refresh.grace_ms) {
            return Err(SettingError::new(
                "tokens.refresh_grace_s",
                "allowed are 0 to 60",
            ));
        }
        // S3-58: a cookie lives one to thirty days (AC-111).
        if !(DAY_MS..=30 * DAY_MS).contains(&self.sessions.absolute_ms) {
            let why = format!(
                "{} s is not within 86400 and 2592000 s (1 to 30 days)",
                secs(self.sessions.absolute_ms)
            );
            return Err(SettingError::new("sessions.max_age_s", why));
        }
        if !(60_000..=self.sessions.absolute_ms).contains(&self.sessions.idle_ms) {
            let why = "allowed are 60 s to max_age_s";
            return Err(SettingError::new("sessions.idle_s", why));
        }
        if !(1..=1000).contains(&self.max_sessions) {
            return Err(SettingError::new("sessions.max", "allowed are 1 to 1000"));
        }
        if !(DAY_MS..=366 * DAY_MS).contains(&self.signing_key_ms) {
            return Err(SettingError::new(
                "tokens.signing_key_days",
                "allowed are 1 to 366",
            ));
        }
        let bad = |text: &&String| !crate::oauth2::resource::is_identifier(text);
        if let Some(bad) = self.resources.iter().find(bad) {
            let why = format!("“{bad}” is no complete address without a fragment");
            return Err(SettingError::new("resources", why));
        }
        if self.resources.len() > 100 {
            return Err(SettingError::new("resources", "allowed are 100"));
        }
        // Cookies are Secure always: without TLS only this machine's browsers send them (AC-112).
        let https = self.issuer.as_str().starts_with("https://");
        if !https && !self.listen.ip().is_loopback() {
            let why = format!(
                "{} is not this machine, and the issuer is plain http",
                self.listen
            );
            return Err(SettingError::new("listen", why));
        }
        if https
            && self.tls.is_none()
            && !self.listen.ip().is_loopback()
            && self.trusted_proxies.is_empty()
        {
            let why = "an https issuer needs tls.cert and tls.key, or proxies.trusted for the proxy that does TLS";
            return Err(SettingError::new("tls.cert", why));
        }
        if let Some(open) = self
            .trusted_proxies
            .iter()
            .find(|net| net.prefix_len() == 0)
        {
            let why = format!("{open} trusts everybody: name the proxies");
            return Err(SettingError::new("proxies.trusted", why));
        }
        if let Some(open) = self.metrics_allow.iter().find(|net| net.prefix_len() == 0) {
            let why = format!("{open} is everybody: name the networks that collect figures");
            return Err(SettingError::new("metrics.allow", why));
        }
        if self.metrics_listen == Some(self.listen) && self.listen.port() != 0 {
            let why = "it is the address of `listen`: choose another port";
            return Err(SettingError::new("metrics.listen", why));
        }
        if !(1..=100).contains(&self.node_name.chars().count())
            || self.node_name.chars().any(char::is_control)
        {
            let why = "it has 1 to 100 characters that can be printed";
            return Err(SettingError::new("node_name", why));
        }
        if let Some((_, key)) = &self.tls
            && key.as_os_str().is_empty()
        {
            let why = "a certificate needs its key: --tls-key";
            return Err(SettingError::new("tls.key", why));
        }
        if let Some(database) = &self.database {
            postgres_transport(database.expose()).map_err(|error| match error {
                RegistryError::UnsafePath(why) => SettingError::new("database", why),
                other => SettingError::new("database", other.to_string()),
            })?;
        }
        if let Some(redis) = &self.redis_url {
            let address = redis.expose();
            let by_tls = address.starts_with("rediss://");
            if !by_tls && !address.starts_with("redis://") {
                let why = "the address of a Redis begins with rediss:// (TLS) or redis://";
                return Err(SettingError::new("redis_url", why));
            }
            if address.contains('#') {
                let why = "what stands after # would take checks away: leave it out";
                return Err(SettingError::new("redis_url", why));
            }
            if !by_tls && self.redis_ca.is_some() {
                let why = "redis_url begins with redis://, which is clear text: make it rediss://";
                return Err(SettingError::new("redis_ca", why));
            }
        }
        if let Some(endpoint) = &self.otlp_endpoint {
            check_collector(endpoint)?;
        }
        if !(1..=100).contains(&self.otlp_sample_percent) {
            let why = "allowed are 1 to 100";
            return Err(SettingError::new("telemetry.sample_percent", why));
        }
        if let Some(url) = &self.github_keys_url {
            checks::github_keys_url(url, self.allow_private_addresses)?;
        }
        if let SignUp::ByProvider(roles) = &self.sign_up {
            roles
                .iter()
                .try_for_each(|role| checks::sign_up_role(role))?;
        }
        if self.drain > LONGEST_DRAIN {
            return Err(SettingError::new("drain_s", "allowed are 0 to 600"));
        }
        if self.drain_notice > LONGEST_DRAIN {
            return Err(SettingError::new("drain_notice_s", "allowed are 0 to 600"));
        }
        Ok(self)
    }

    /// Whether browsers reach us by https.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.issuer.as_str().starts_with("https://")
    }

    /// An address of ours: `path` begins with a slash and is below the issuer.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.issuer.as_str())
    }

    /// The origin of our pages (RFC 6454 §6.2).
    #[must_use]
    pub fn origin(&self) -> &str {
        let text = self.issuer.as_str();
        text.strip_suffix(self.base_path.as_str()).unwrap_or(text)
    }

    /// A path of ours as browsers see it.
    #[must_use]
    pub fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base_path)
    }

    /// Whether a proxy's word on where a request came from counts.
    #[must_use]
    pub fn trusts_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies
            .iter()
            .any(|net| net.contains(&address))
    }
}

/// What the machine is called. Asked of the kernel: a unit that sees of `/proc` its processes alone finds no file
/// with the name there, and several nodes would be called the same.
fn machine_name() -> String {
    let said = rustix::system::uname();
    let name: String = said
        .nodename()
        .to_string_lossy()
        .trim()
        .chars()
        .filter(|letter| !letter.is_control())
        .take(100)
        .collect();
    if name.is_empty() {
        "node".to_owned()
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings::new("http://127.0.0.1:8377", PathBuf::from("data")).unwrap()
    }

    #[test]
    fn a_node_without_a_name_is_called_as_its_machine() {
        let said = std::process::Command::new("uname").arg("-n").output();
        let said = String::from_utf8(said.unwrap().stdout).unwrap();
        let name: String = said.trim().chars().take(100).collect();
        assert!(!name.is_empty());
        assert_eq!(settings().node_name, name);
    }

    #[test]
    fn ac_200_a_certificate_without_its_key_is_refused_by_name() {
        let mut settings = settings();
        settings.tls = Some((PathBuf::from("cert.pem"), PathBuf::new()));
        assert_eq!(settings.check().unwrap_err().setting, "tls.key");
    }

    #[test]
    fn ac_200_a_database_elsewhere_says_how_it_is_protected() {
        let with = |address: &str| {
            let mut settings = settings();
            settings.database = Some(DatabaseAddress::new(address.to_owned()));
            settings.check()
        };
        assert!(with("postgres://u:hunter2@127.0.0.1/k").is_ok());
        assert!(with("postgres://u:hunter2@db.example/k?sslmode=verify-full").is_ok());
        let error = with("postgres://u:hunter2@db.example/k").unwrap_err();
        assert_eq!(error.setting, "database");
        assert!(error.why.contains("sslmode=verify-full") && !error.why.contains("hunter2"));
    }

    fn refused(change: impl FnOnce(&mut Settings)) -> &'static str {
        let mut settings = settings();
        change(&mut settings);
        settings.check().unwrap_err().setting
    }

    #[test]
    fn ac_200_defaults_are_safe_and_what_is_not_is_refused_by_name() {
        assert!(settings().check().is_ok());
        assert_eq!(refused(|s| s.access_ms = 60_000), "tokens.access_s");
        assert_eq!(refused(|s| s.access_ms = 3_600_001), "tokens.access_s");
        assert_eq!(refused(|s| s.code_ms = 601_000), "tokens.code_s");
        assert_eq!(
            refused(|s| s.refresh.idle_ms = DAY_MS),
            "tokens.refresh_idle_days"
        );
        assert_eq!(
            refused(|s| s.refresh.grace_ms = 61_000),
            "tokens.refresh_grace_s"
        );
        for resource in ["api", "https://api.example.com/#x", "mailto:a@b"] {
            assert_eq!(refused(|s| s.resources.push(resource.into())), "resources");
        }
        let everybody = "0.0.0.0/0".parse().unwrap();
        assert_eq!(
            refused(|s| s.trusted_proxies.push(everybody)),
            "proxies.trusted"
        );
        let everybody = "::/0".parse().unwrap();
        assert_eq!(
            refused(|s| s.metrics_allow.push(everybody)),
            "metrics.allow"
        );
        assert_eq!(
            refused(|s| s.metrics_listen = Some(s.listen)),
            "metrics.listen"
        );
        for address in [
            "rediss://127.0.0.1/#insecure",
            "http://127.0.0.1",
            "127.0.0.1:6379",
        ] {
            let redis = Some(DatabaseAddress::new(address.into()));
            assert_eq!(refused(|s| s.redis_url = redis), "redis_url");
        }
        let in_clear = |s: &mut Settings| {
            s.redis_url = Some(DatabaseAddress::new("redis://127.0.0.1".into()));
            s.redis_ca = Some("ca.pem".into());
        };
        assert_eq!(refused(in_clear), "redis_ca");
        for name in ["", "a\nb", &"n".repeat(101)] {
            assert_eq!(refused(|s| s.node_name = name.into()), "node_name");
        }
        assert_eq!(refused(|s| s.drain = Duration::from_secs(601)), "drain_s");
        for endpoint in [
            "http://collector.example.com:4318",
            "https://name:word@collector.example.com",
            "https://collector.example.com/?key=x",
            "ftp://127.0.0.1/",
        ] {
            let refused = refused(|s| s.otlp_endpoint = Some(endpoint.parse().unwrap()));
            assert_eq!(refused, "telemetry.otlp_endpoint", "{endpoint}");
        }
        for endpoint in [
            "http://127.0.0.1:4318",
            "http://localhost:4318",
            "https://c.example",
        ] {
            let mut settings = settings();
            settings.otlp_endpoint = Some(endpoint.parse().unwrap());
            assert!(settings.check().is_ok(), "{endpoint}");
        }
        assert_eq!(
            refused(|s| s.otlp_sample_percent = 0),
            "telemetry.sample_percent"
        );
        assert_eq!(
            refused(|s| s.drain_notice = Duration::from_secs(601)),
            "drain_notice_s"
        );
    }

    #[test]
    fn ac_111_a_cookie_age_out_of_bounds_is_refused_naming_the_bound() {
        for ms in [3_600_000, 40 * DAY_MS] {
            let mut settings = settings();
            settings.sessions.absolute_ms = ms;
            let error = settings.check().unwrap_err();
            assert_eq!(error.setting, "sessions.max_age_s");
            assert!(error.why.contains("86400 and 2592000"), "{error}");
        }
    }

    #[test]
    fn ac_112_plain_http_off_this_machine_is_refused() {
        let open = |s: &mut Settings| s.listen = "0.0.0.0:80".parse().unwrap();
        assert_eq!(refused(open), "listen");
        assert!(Settings::new("http://id.example.com", PathBuf::new()).is_err());
        let mut https = Settings::new("https://id.example.com/auth", PathBuf::new()).unwrap();
        assert_eq!(
            (https.base_path.as_str(), https.origin()),
            ("/auth", "https://id.example.com")
        );
        https.listen = "0.0.0.0:443".parse().unwrap();
        assert_eq!(https.clone().check().unwrap_err().setting, "tls.cert");
        https.tls = Some((PathBuf::from("c"), PathBuf::from("k")));
        assert!(https.check().is_ok());
    }

    #[test]
    fn a_proxy_is_trusted_by_its_list_only() {
        let mut settings = settings();
        settings.trusted_proxies.push("10.0.0.0/8".parse().unwrap());
        assert!(settings.trusts_proxy("10.1.2.3".parse().unwrap()));
        assert!(settings.trusts_proxy("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!settings.trusts_proxy("11.1.2.3".parse().unwrap()));
    }
}
