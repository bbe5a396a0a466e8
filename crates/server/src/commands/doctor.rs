//! `keywright-server doctor`: looks at everything that a server needs, and changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use keywright_registry::{Clock, LocalRegistry, PostgresTransport, postgres_transport};
use keywright_server::settings::Settings;
use keywright_server::{
    CertificateDates, CertificateState, KeyFinding, ServerSecrets, check_certificate,
    check_github_keys, check_mail, check_redis, check_signing_keys, is_empty,
    missing_sign_up_roles,
};
use serde_json::{Value, json};

use super::installation::Installation;
use super::overrides::Overrides;
use super::owner;
use super::shared::{open_or_make, open_secrets, place, secrets_path};

const REACH_WITHIN: Duration = Duration::from_secs(5);
const LARGEST_DOCUMENT: usize = 64 * 1024;

/// Checks settings, secrets, database, keys and the address. It changes nothing; its exit code says
/// whether something must be done.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    installation: Installation,
    #[command(flatten)]
    overrides: Overrides,
    /// Does not ask the issuer's address, nor others.
    #[arg(long)]
    offline: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Good,
    Warning,
    Error,
}

/// What was found, and what to do.
#[derive(Debug)]
struct Finding {
    level: Level,
    subject: &'static str,
    text: String,
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, subject: &'static str, text: impl Into<String>) {
        self.0.push(Finding {
            level,
            subject,
            text: text.into(),
        });
    }

    fn good(&mut self, subject: &'static str, text: impl Into<String>) {
        self.add(Level::Good, subject, text);
    }

    fn warning(&mut self, subject: &'static str, text: impl Into<String>) {
        self.add(Level::Warning, subject, text);
    }

    fn error(&mut self, subject: &'static str, text: impl Into<String>) {
        self.add(Level::Error, subject, text);
    }
}

impl Doctor {
    pub(crate) async fn run(self) -> Result<()> {
        let findings = self.look().await;
        for finding in &findings.0 {
            let level = match finding.level {
                Level::Good => "good",
                Level::Warning => "warning",
                Level::Error => "error",
            };
            if self.json {
                let (subject, text) = (finding.subject, &finding.text);
                println!(
                    "{}",
                    json!({ "level": level, "subject": subject, "text": text })
                );
            } else {
                println!("{level:<8} {:<10} {}", finding.subject, finding.text);
            }
        }
        let errors = findings.0.iter().filter(|one| one.level == Level::Error);
        match errors.count() {
            0 => Ok(()),
            1 => bail!("one thing must be mended"),
            count => bail!("{count} things must be mended"),
        }
    }

    async fn look(&self) -> Findings {
        let mut findings = Findings::default();
        let told = self.installation.settings();
        let settings = match told.and_then(|settings| self.overrides.over(settings)) {
            Ok(settings) => settings,
            Err(error) => {
                findings.error("settings", format!("{error:#}"));
                return findings;
            }
        };
        let settings = match settings.clone().check() {
            Ok(settings) => {
                findings.good("settings", "they can be used");
                settings
            }
            Err(error) => {
                findings.error("settings", format!("{error}: change it in server.toml, or where it was said: environment or flags"));
                settings
            }
        };
        look_at_files(&settings, &self.installation, &mut findings);
        let secrets = match open_secrets(&settings.data) {
            Ok(secrets) => {
                findings.good("secrets", "the master key can be used");
                Some(secrets)
            }
            Err(error) => {
                findings.error("secrets", format!("{error:#}"));
                None
            }
        };
        match self.installation.check(&settings) {
            Ok(()) => {
                look_at_the_way(&settings, &mut findings);
                look_at_database(&settings, secrets.as_ref(), &mut findings).await;
            }
            Err(error) => findings.error("database", format!("{error:#}")),
        }
        look_at_address(&settings, self.offline, &mut findings).await;
        findings
    }
}

fn look_at_files(settings: &Settings, installation: &Installation, findings: &mut Findings) {
    let secrets = secrets_path(&settings.data);
    for (path, subject) in [(&settings.data, "data"), (&secrets, "secrets")] {
        match mode(path) {
            Some(mode) if mode & 0o077 != 0 => findings.error(
                subject,
                format!("{0} is open to others: `chmod go= {0}`", path.display()),
            ),
            Some(_) => findings.good(subject, format!("{} is closed to others", path.display())),
            None => findings.error(subject, format!("{} is missing", path.display())),
        }
    }
    let file = installation.settings_file();
    if settings.database.is_some() && mode(&file).is_some_and(|mode| mode & 0o077 != 0) {
        findings.error(
            "settings",
            format!(
                "{0} holds the database's address and others can read it: `chmod go= {0}`",
                file.display()
            ),
        );
    }
    for path in owner::unreadable(settings, &file) {
        let text = format!(
            "{0} cannot be read by the server: `chown {1} {0}`, and say commands as {1}, not as root",
            path.display(),
            owner::name_of_owner(&settings.data)
        );
        findings.error("owner", text);
    }
    if owner::is_roots_in_anothers(&settings.data) {
        let text = format!(
            "what is in {0} is root's, and the folder is not: right where root serves from it. If the folder's user does, \
             `chown -R --reference={0} {0}`",
            settings.data.display()
        );
        findings.warning("owner", text);
    }
    if let Some((cert, key)) = &settings.tls {
        match check_certificate(cert, key) {
            Ok(dates) => look_at_dates(dates, findings),
            Err(error) => findings.error("tls", error.to_string()),
        }
        if mode(key).is_some_and(|mode| mode & 0o007 != 0) {
            findings.error(
                "tls",
                format!(
                    "{0} can be read by everybody: `chmod o= {0}`",
                    key.display()
                ),
            );
        }
    }
}

fn look_at_dates(dates: CertificateDates, findings: &mut Findings) {
    match dates.now() {
        CertificateState::Good(days) => {
            let text = format!("certificate and key fit, and are good for {days} days");
            findings.good("tls", text);
        }
        CertificateState::EndsSoon(days) => {
            let text = format!(
                "the certificate ends in {days} days: renew it, and look why that was not done by itself"
            );
            findings.warning("tls", text);
        }
        CertificateState::Over(days) => {
            let text = format!("the certificate ended {days} days ago: renew it; clients refuse it");
            findings.error("tls", text);
        }
        CertificateState::NotYet => findings.error(
            "tls",
            "the certificate is not good yet: put the right one there, or look at this machine's clock",
        ),
    }
}

fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path)
        .ok()
        .map(|metadata| metadata.permissions().mode())
}

async fn look_at_database(
    settings: &Settings,
    secrets: Option<&ServerSecrets>,
    findings: &mut Findings,
) {
    let known = LocalRegistry::newest_schema();
    match LocalRegistry::stored_schema(&place(settings)).await {
        Ok(Some(found)) if found == known => {
            findings.good("database", format!("it answers, with schema {found}"));
        }
        Ok(Some(found)) if found < known => {
            let text = format!(
                "its schema is {found}, and this program's is {known}: `keywright-server migrate`, or the next start, brings it there. Servers of \
                 the version before go on until they are restarted"
            );
            return findings.warning("database", text);
        }
        Ok(Some(found)) => {
            let text = format!(
                "its schema is {found}, and this program knows {known}: use the newer program"
            );
            return findings.error("database", text);
        }
        Ok(None) => {
            let text = "there is no registry in it: run `keywright-server init`, restore a backup, or say --database where it is in PostgreSQL";
            return findings.error("database", text);
        }
        Err(error) => {
            let text =
                format!("it does not answer: {error}. Is it running, and is its address right?");
            return findings.error("database", text);
        }
    }
    let registry = match open_or_make(settings).await {
        Ok(registry) => registry,
        Err(error) => return findings.error("database", format!("{error:#}")),
    };
    if let Err(error) = look_inside(&registry, secrets, findings).await {
        findings.error("database", error.to_string());
    }
    match missing_sign_up_roles(settings, &registry).await {
        Ok(missing) if missing.is_empty() => {}
        Ok(missing) => {
            let text = format!(
                "sign_up.provider_roles names {}, which the registry does not have: nobody can sign up. Make the role, or name another",
                missing.join(", ")
            );
            findings.error("settings", text);
        }
        Err(error) => findings.error("database", error.to_string()),
    }
    registry.close().await;
}

/// What protects the way to a PostgreSQL on another machine.
fn look_at_the_way(settings: &Settings, findings: &mut Findings) {
    let Some(address) = &settings.database else {
        return;
    };
    match postgres_transport(address.expose()) {
        Ok(PostgresTransport::ThisMachine) | Err(_) => {}
        Ok(PostgresTransport::Verified) => {
            findings.good("database", "the way to it is TLS, and its certificate is checked");
        }
        Ok(PostgresTransport::Unverified) => findings.warning(
            "database",
            "the way to it is TLS, and nobody looks whom it leads to: make it sslmode=verify-full",
        ),
        Ok(PostgresTransport::Clear) => findings.warning(
            "database",
            "the way to it is clear text: whoever is on it reads and changes everything, revocations too",
        ),
    }
}

async fn look_inside(
    registry: &LocalRegistry,
    secrets: Option<&ServerSecrets>,
    findings: &mut Findings,
) -> Result<()> {
    if is_empty(registry).await? {
        findings.warning("people", "nobody is there: run `keywright-server init`");
    } else {
        findings.good("people", "there are people");
    }
    if registry.may_lose_commits().await? {
        let text = "PostgreSQL has replicas, and synchronous_standby_names is empty: what was ended last works again when one takes over";
        findings.warning("database", text);
    }
    for webhook in registry.list_webhooks().await? {
        if webhook.disabled_at.is_some() {
            let (id, why) = (&webhook.id, webhook.disabled_reason.as_deref());
            let text = format!(
                "webhook {id} is switched off ({}): whoever it told hears nothing. Mend its receiver and switch it on, or remove it",
                why.unwrap_or("by an administrator")
            );
            findings.warning("webhooks", text);
        }
    }
    look_at_trail(registry, findings).await?;
    let Some(secrets) = secrets else {
        return Ok(());
    };
    for (at, pepper) in registry.list_peppers().await?.into_iter().enumerate() {
        match secrets.pepper(&pepper.id) {
            Ok(_) => findings.good("peppers", format!("pepper {} is there", pepper.id)),
            // The server does not start without it, whether or not a key is stored under it already.
            Err(error) if at == 0 => {
                let text = format!("{error}; it is in force: put its copy back");
                findings.error("peppers", text);
            }
            Err(error) if pepper.is_needed => {
                let keys = registry.count_secrets_under(&pepper.id).await?;
                let text = format!("{error}; {keys} live keys need it: put its copy back");
                findings.error("peppers", text);
            }
            Err(_) => {}
        }
    }
    for (alg, finding) in check_signing_keys(registry, secrets).await? {
        match finding {
            KeyFinding::Good => findings.good("keys", format!("{alg}: one signs")),
            KeyFinding::None => {
                findings.warning("keys", format!("{alg}: none yet; the server makes it when it starts"));
            }
            KeyFinding::Unusable => findings.error(
                "keys",
                format!(
                    "{alg}: it was sealed under another master key: put the right one back, or run `keywright-server signing-keys retire` and start the server"
                ),
            ),
        }
    }
    Ok(())
}

/// A server signs it every hour.
const SIGNED_WITHIN_MS: i64 = 3 * 60 * 60 * 1000;

async fn look_at_trail(registry: &LocalRegistry, findings: &mut Findings) -> Result<()> {
    let now = Clock::system().now();
    match registry.audit_unsigned_since().await? {
        Some(since) if now.saturating_sub(since) > SIGNED_WITHIN_MS => {
            let hours = now.saturating_sub(since) / 3_600_000;
            let text = format!(
                "what is in the audit trail since {hours} hours is not signed: a server that runs does it every hour, and its log says why not"
            );
            findings.warning("audit", text);
        }
        _ => findings.good("audit", "the audit trail is signed"),
    }
    Ok(())
}

/// Above the most that offline verification bears well (C-01 of the requirements).
const LONG_ACCESS_MS: i64 = 900_000;

async fn look_at_address(settings: &Settings, offline: bool, findings: &mut Findings) {
    if settings.is_https() && settings.tls.is_none() && settings.trusted_proxies.is_empty() {
        let text = "a proxy does TLS, and proxies.trusted is empty: every request seems to come from the proxy, so failures are counted for all people together";
        findings.warning("issuer", text);
    }
    if settings.access_ms > LONG_ACCESS_MS {
        let text = format!(
            "tokens.access_s is {} s: whoever verifies tokens offline lets a revoked one through for so long; 900 s is what we advise",
            settings.access_ms / 1000
        );
        findings.warning("settings", text);
    }
    if settings.allow_private_addresses && settings.is_https() {
        let text = "allow_private_addresses is for development: clients and identity providers can make this server ask addresses inside your network";
        findings.warning("settings", text);
    }
    if offline {
        return;
    }
    if settings.github_keys_url.is_some() {
        match check_github_keys(settings).await {
            Ok(()) => findings.good("leaks", "GitHub's keys can be read"),
            Err(why) => findings.warning(
                "leaks",
                format!("GitHub's keys cannot be read from leaks.github_keys_url ({why}): its reports are refused until they can"),
            ),
        }
    }
    if settings.redis_url.is_some() {
        match check_redis(settings).await {
            Ok(()) => findings.good("redis", "it answers"),
            Err(why) => findings.error(
                "redis",
                format!("limits are not counted for all nodes together ({why}): look at redis_url, redis_ca and the Redis"),
            ),
        }
    }
    if settings.mail.is_some() {
        match check_mail(settings).await {
            Ok(()) => findings.good("mail", "the mail server answers, and takes the login"),
            Err(why) => findings.error(
                "mail",
                format!("no mail leaves ({why}): look at [mail], and at the mail server"),
            ),
        }
    }
    let url = settings.url("/.well-known/openid-configuration");
    match asked(&url).await {
        Ok(document) if document["issuer"] == settings.issuer.as_str() => {
            findings.good("issuer", format!("{url} answers"));
        }
        Ok(_) => findings.error(
            "issuer",
            format!("{url} answers, and is not this server: look at DNS and the proxy"),
        ),
        Err(why) => findings.warning(
            "issuer",
            format!("{url} does not answer ({why}): start the server, then look at DNS, the proxy and the firewall"),
        ),
    }
}

async fn asked(url: &str) -> Result<Value> {
    let client = reqwest::Client::builder()
        .timeout(REACH_WITHIN)
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LARGEST_DOCUMENT {
            bail!("the answer is too large");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::commands::shared::tests::set_up_folder;

    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        doctor: Doctor,
    }

    async fn look(data: &Path) -> Vec<(Level, &'static str, String)> {
        look_with(data, &[]).await
    }

    async fn look_with(data: &Path, words: &[&str]) -> Vec<(Level, &'static str, String)> {
        let own = ["doctor", "--offline", "--data", data.to_str().unwrap()];
        let doctor = Alone::parse_from([&own[..], words].concat()).doctor;
        let findings = doctor.look().await.0.into_iter();
        findings
            .map(|one| (one.level, one.subject, one.text))
            .collect()
    }

    fn errors(found: &[(Level, &'static str, String)]) -> Vec<&'static str> {
        found
            .iter()
            .filter(|(level, ..)| *level == Level::Error)
            .map(|(_, subject, _)| *subject)
            .collect()
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn ac_200_what_the_server_was_told_beside_the_file_is_looked_at() {
        let folder = set_up_folder().await;
        let data = folder.path();
        let path = data.join("server.toml");
        let text = fs::read_to_string(&path).unwrap();
        // As in the documented container: an issuer of https, a proxy that does TLS.
        let https = text.replace("http://127.0.0.1:8377", "https://id.example.org");
        fs::write(&path, https).unwrap();
        let warned = |found: &[(Level, &'static str, String)]| {
            let text = "a proxy does TLS, and proxies.trusted is empty";
            found.iter().any(|(.., said)| said.starts_with(text))
        };
        assert!(warned(&look(data).await));
        let told = look_with(data, &["--trusted-proxy", "10.0.0.0/8"]).await;
        assert!(!warned(&told) && errors(&told).is_empty(), "{told:?}");
        let everybody = look_with(data, &["--trusted-proxy", "0.0.0.0/0"]).await;
        assert_eq!(errors(&everybody), ["settings"]);
        let no_files = ["--tls-cert", "none.pem", "--tls-key", "none.key"];
        assert_eq!(errors(&look_with(data, &no_files).await), ["tls"]);
        let no_address = look_with(data, &["--otlp-endpoint", "nowhere"]).await;
        assert_eq!(errors(&no_address), ["settings"]);
    }

    fn told(found: &[(Level, &'static str, String)], subject: &str) -> Vec<(Level, String)> {
        let of = found.iter().filter(|(_, one, _)| *one == subject);
        of.map(|(level, _, text)| (*level, text.clone())).collect()
    }

    #[tokio::test]
    async fn ac_200_a_certificate_is_judged_by_its_dates() {
        let folder = set_up_folder().await;
        let data = folder.path();
        let (cert, key) = (data.join("tls.pem"), data.join("tls.key"));
        let words = ["--tls-cert", cert.to_str().unwrap(), "--tls-key"];
        let words = [&words[..], &[key.to_str().unwrap()]].concat();
        let year = |year| rcgen::date_time_ymd(year, 1, 1);
        for (from, until, level, said) in [
            (2020, 4000, Level::Good, "are good for"),
            (2000, 2001, Level::Error, "ended"),
            (3999, 4000, Level::Error, "not good yet"),
        ] {
            let mut made = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            (made.not_before, made.not_after) = (year(from), year(until));
            let pair = rcgen::KeyPair::generate().unwrap();
            fs::write(&cert, made.self_signed(&pair).unwrap().pem()).unwrap();
            fs::write(&key, pair.serialize_pem()).unwrap();
            chmod(&key, 0o600);
            let found = told(&look_with(data, &words).await, "tls");
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].0, level, "{found:?}");
            assert!(found[0].1.contains(said), "{found:?}");
        }
    }

    #[tokio::test]
    async fn ac_200_what_nobody_would_hear_of_is_told() {
        let folder = set_up_folder().await;
        let data = folder.path();
        let found = look(data).await;
        assert!(told(&found, "webhooks").is_empty(), "{found:?}");
        assert_eq!(told(&found, "audit")[0].0, Level::Good, "{found:?}");
        // By a clock of hours ago something was written, and nobody signed it since.
        let day_ago = Clock::system().now() - 86_400_000;
        let by = Clock::from_fn(move || day_ago);
        let file = data.join("registry.db");
        let registry = LocalRegistry::open(&file, by).await.unwrap();
        let actor = keywright_domain::audit::Actor::keywright();
        let key = keywright_domain::audit_chain::CheckpointKey::from_bytes(&[7; 32]);
        registry.checkpoint_audit(&actor, &key).await.unwrap();
        let secrets = open_secrets(data).unwrap();
        registry
            .rotate_pepper(&actor, &secrets.new_pepper().unwrap())
            .await
            .unwrap();
        registry.close().await;
        let found = told(&look(data).await, "audit");
        assert_eq!(found[0].0, Level::Warning, "{found:?}");
        assert!(found[0].1.contains("since 24 hours"), "{found:?}");
    }

    #[tokio::test]
    async fn a_redis_and_a_mail_server_that_do_not_answer_are_told() {
        let folder = set_up_folder().await;
        let data = folder.path();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        let path = data.join("server.toml");
        let text = fs::read_to_string(&path).unwrap();
        let text = format!(
            "redis_url = \"redis://127.0.0.1:{port}\"\n{text}\n[mail]\nsmtp_url = \"smtp://127.0.0.1:{port}\"\nfrom = \"K <k@example.org>\"\n"
        );
        fs::write(&path, text).unwrap();
        chmod(&path, 0o600);
        let own = ["doctor", "--data", data.to_str().unwrap()];
        let found = Alone::parse_from(own).doctor.look().await.0;
        for subject in ["redis", "mail"] {
            let errors = found
                .iter()
                .filter(|one| one.subject == subject && one.level == Level::Error);
            assert_eq!(errors.count(), 1, "{found:?}");
        }
    }

    #[tokio::test]
    async fn ac_200_a_pepper_in_force_that_is_not_here_is_an_error_before_a_key_needs_it() {
        let folder = set_up_folder().await;
        let data = folder.path();
        let secrets = open_secrets(data).unwrap();
        let id = secrets.new_pepper().unwrap();
        let (_, registry) = Installation::of(data).open().await.unwrap();
        let actor = keywright_domain::audit::Actor::keywright();
        registry.rotate_pepper(&actor, &id).await.unwrap();
        registry.close().await;
        assert_eq!(errors(&look(data).await), Vec::<&str>::new());
        fs::remove_file(data.join(format!("secrets/pepper-{id}.key"))).unwrap();
        let found = look(data).await;
        assert_eq!(errors(&found), ["peppers"], "{found:?}");
        // And so the server says.
        let (_, registry) = Installation::of(data).open().await.unwrap();
        assert!(
            keywright_server::peppers_of(&registry, &secrets)
                .await
                .is_err()
        );
        registry.close().await;
    }

    #[tokio::test]
    async fn ac_200_what_root_left_in_the_folder_of_another_user_is_found() {
        let folder = set_up_folder().await;
        let data = folder.path();
        let give = |path: &Path| std::os::unix::fs::chown(path, Some(65_534), Some(65_534));
        // Only root can give files away.
        if give(data).is_err() {
            return;
        }
        // All in it is root's: so it is where root serves from a folder of somebody's that is mounted, too.
        let found = look(data).await;
        assert_eq!(errors(&found), Vec::<&str>::new(), "{found:?}");
        let told = |found: &[(Level, &'static str, String)]| {
            let owners = found.iter().filter(|(_, subject, _)| *subject == "owner");
            owners.map(|(level, ..)| *level).collect::<Vec<_>>()
        };
        assert_eq!(told(&found), [Level::Warning], "{found:?}");
        owner::check(data).unwrap();
        let secrets = data.join("secrets");
        give(&secrets).unwrap();
        for folder in [data, &secrets] {
            for entry in fs::read_dir(folder).unwrap().flatten() {
                give(&entry.path()).unwrap();
            }
        }
        let found = look(data).await;
        assert_eq!(errors(&found), Vec::<&str>::new(), "{found:?}");
        assert_eq!(told(&found), [], "{found:?}");
        // The folder of the secrets alone, as an older version's restore left it.
        std::os::unix::fs::chown(&secrets, Some(0), Some(0)).unwrap();
        let found = look(data).await;
        assert_eq!(told(&found), [Level::Error], "{found:?}");
        assert!(owner::check(data).is_err(), "root makes one more there");
        give(&secrets).unwrap();
        open_secrets(data).unwrap().new_pepper().unwrap();
        let found = look(data).await;
        assert_eq!(errors(&found), ["owner"], "{found:?}");
        assert!(found.iter().any(|(.., text)| text.contains("`chown ")));
    }

    #[tokio::test]
    async fn ac_200_each_fault_is_found_with_what_to_do() {
        let folder = set_up_folder().await;
        let data = folder.path();
        assert_eq!(errors(&look(data).await), Vec::<&str>::new());

        let master = data.join("secrets/master.key");
        chmod(&master, 0o644);
        let found = look(data).await;
        assert_eq!(errors(&found), ["secrets"]);
        assert!(found.iter().any(|(_, _, text)| text.contains("chmod go= ")));
        chmod(&master, 0o600);

        chmod(&data.join("secrets"), 0o755);
        assert_eq!(errors(&look(data).await), ["secrets"]);
        chmod(&data.join("secrets"), 0o700);

        // Tokens that live longer than we advise: allowed, and told.
        let server_toml = fs::read_to_string(data.join("server.toml")).unwrap();
        let long = format!("{server_toml}\n[tokens]\naccess_s = 3600\n");
        let told = |found: &[(Level, &'static str, String)]| {
            found.iter().any(|(level, _, text)| {
                *level == Level::Warning && text.starts_with("tokens.access_s is 3600 s")
            })
        };
        assert!(!told(&look(data).await));
        fs::write(data.join("server.toml"), long).unwrap();
        assert!(told(&look(data).await));
        fs::write(data.join("server.toml"), &server_toml).unwrap();

        // Another master key: what was sealed does not open.
        let key = fs::read(&master).unwrap();
        fs::remove_file(&master).unwrap();
        ServerSecrets::create(&data.join("secrets")).unwrap();
        let found = look(data).await;
        assert_eq!(errors(&found), ["keys", "keys", "keys"]);
        fs::write(&master, key).unwrap();

        for pepper in fs::read_dir(data.join("secrets")).unwrap().flatten() {
            if pepper.file_name().to_string_lossy().starts_with("pepper-") {
                fs::remove_file(pepper.path()).unwrap();
            }
        }
        assert_eq!(errors(&look(data).await), ["peppers"]);

        let no_role =
            format!("{server_toml}\n[sign_up]\nprovider_roles = [\"member\", \"none\"]\n");
        fs::write(data.join("server.toml"), no_role).unwrap();
        let found = look(data).await;
        assert!(found.iter().any(|(level, _, text)| *level == Level::Error
            && text.starts_with("sign_up.provider_roles names none,")));

        let unsafe_proxies = format!("{server_toml}\n[proxies]\ntrusted = [\"0.0.0.0/0\"]\n");
        fs::write(data.join("server.toml"), unsafe_proxies).unwrap();
        let found = look(data).await;
        assert!(
            found
                .iter()
                .any(|(_, _, text)| text.starts_with("proxies.trusted"))
        );
        fs::remove_file(data.join("registry.db")).unwrap();
        fs::write(data.join("server.toml"), server_toml).unwrap();
        assert_eq!(errors(&look(data).await), ["database"]);
        assert!(!data.join("registry.db").exists(), "it changes nothing");
    }
}
