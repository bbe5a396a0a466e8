//! What must never stand in a log (AC-202). Every server of these tests is scanned when it ends, whatever
//! the test was about: by the forms that our secrets have, and for every secret that went through the
//! tests' hands.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};

use anyhow::{Result, ensure};
use regex::Regex;
use serde_json::Value;

/// Shorter ones would be found in ordinary words.
const SHORTEST: usize = 12;

/// Secrets of this process's tests, of all their servers: a secret of one in the log of another is no better.
static SECRETS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Members of JSON, parameters and fields that hold a secret.
const NAMES: &[&str] = &[
    "access_token",
    "clientSecret",
    "client_secret",
    "code",
    "codes",
    "cookie",
    "csrfToken",
    "csrf_token",
    "device_code",
    "id_token",
    "key",
    "link",
    "password",
    "refresh_token",
    "registration_access_token",
    "request_uri",
    "secret",
    "secrets",
    "state",
    "token",
    "url",
    "user_code",
    "verification_uri_complete",
];

/// What our secrets look like, and what other people's do.
static FORMS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    [
        ("an API key", r"KYWRT1[0-9A-Za-z]{38}"),
        ("a signed token", r"eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]*"),
        // 256 random bits: codes, refresh and session tokens, state, verifiers, links, what is sealed.
        ("a random token", r"[0-9A-Za-z_-]{43,}"),
        ("a secret of a webhook", r"whsec_[0-9A-Za-z+/=]{8,}"),
        ("a registration token", r"\bkw_reg_[0-9A-Za-z_-]{8,}"),
        ("a user code", r"\b[B-DF-HJ-NP-TV-XZ]{4}-[B-DF-HJ-NP-TV-XZ]{4}\b"),
        ("a secret of one-time codes", r"\b[A-Z2-7]{32}\b"),
        ("an address with one-time codes", r"otpauth://"),
        (
            "credentials in a header",
            r"(?i)\b(?:bearer|basic|dpop)[ :]+[0-9A-Za-z._~+/=-]{16,}",
        ),
        ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY|AGE-SECRET-KEY-1"),
        (
            "the private part of a key",
            r#"\\?"(?:d|p|q|dp|dq|qi|k)\\?" ?: ?\\?"[0-9A-Za-z_-]{16,}"#,
        ),
        ("a password's hash", r"\$argon2"),
        ("a password in an address", r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@"),
        (
            "a parameter that is secret",
            r"\b(?:code|state|nonce|access_token|refresh_token|id_token_hint|client_secret|client_assertion|password|device_code|user_code|request_uri|code_verifier|csrf_token|session)=[^\s&]{8,}",
        ),
    ]
    .into_iter()
    .filter_map(|(name, form)| Some((name, Regex::new(form).ok()?)))
    .collect()
});

/// From now on no log may hold this.
pub(crate) fn keep_out(secret: &str) {
    let secret = secret.trim();
    if secret.len() >= SHORTEST {
        let mut secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.insert(secret.to_owned());
    }
}

/// The same for the secrets of an answer, or of what a script is told.
pub(crate) fn keep_out_of(value: &Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    // Errors have a `code` and operations a `state` too: words, where secrets have digits or capitals.
                    Value::String(text) if is_word(name, text) => {}
                    Value::String(text) if NAMES.contains(&name.as_str()) => keep_out_text(text),
                    Value::Array(items) if NAMES.contains(&name.as_str()) => {
                        items.iter().filter_map(Value::as_str).for_each(keep_out);
                        items.iter().for_each(keep_out_of);
                    }
                    _ => keep_out_of(member),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(keep_out_of),
        _ => {}
    }
}

fn is_word(name: &str, text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    ["code", "state"].contains(&name) && text.chars().all(plain)
}

/// The same for the secrets that an address carries: its parameters, and a token that ends its path.
pub(crate) fn keep_out_of_address(address: &str) {
    // An address of ours may be given without its host.
    let base = url::Url::parse("http://host.invalid").ok();
    let Ok(url) = url::Url::options().base_url(base.as_ref()).parse(address) else {
        return;
    };
    for (name, value) in url.query_pairs() {
        if NAMES.contains(&&*name) {
            keep_out(&value);
        }
    }
    let last = url.path().rsplit('/').next().unwrap_or("");
    if last.len() >= 40 {
        keep_out(last);
    }
}

/// The same for a word that a command printed: what is long is no word.
pub(crate) fn keep_out_word(word: &str) {
    if word.contains("://") || word.len() >= 40 {
        keep_out_text(word);
    }
}

/// The same for the lines of `Set-Cookie`.
pub(crate) fn keep_out_of_cookies(lines: &[String]) {
    for line in lines {
        let pair = line.split(';').next().and_then(|pair| pair.split_once('='));
        if let Some((_, value)) = pair {
            keep_out(value);
        }
    }
}

fn keep_out_text(text: &str) {
    if text.contains("://") {
        keep_out_of_address(text);
    } else {
        keep_out(text);
    }
}

/// Where a log holds what it must not: the line, what it is, and the line without it.
pub(crate) fn findings(log: &str) -> Vec<String> {
    let secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = Vec::new();
    for (number, line) in log.lines().enumerate() {
        let mut tell = |what: &str, secret: &str| {
            let rest = line.replace(secret, "<…>");
            found.push(format!("line {}: {what}: {rest}", number + 1));
        };
        for (what, form) in FORMS.iter() {
            if let Some(one) = form.find(line) {
                tell(what, one.as_str());
            }
        }
        // JSON writes some characters in another way.
        for secret in secrets.iter().filter(|secret| line.contains(*secret)) {
            tell("a secret of the tests", secret);
        }
    }
    found
}

/// Every log in a folder: the files whose names begin with `log`. What was found, by file.
pub(crate) fn findings_in(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("log") {
            let log = std::fs::read(entry.path()).unwrap_or_default();
            let of_file = findings(&String::from_utf8_lossy(&log));
            found.extend(of_file.iter().map(|one| format!("{name} {one}")));
        }
    }
    found
}

#[test]
fn ac_202_every_form_is_found_and_ordinary_lines_are_not() -> Result<()> {
    // Otherwise an expression that is wrong would look for nothing.
    ensure!(FORMS.len() == 14, "{}", FORMS.len());
    let mut entropy = rand::rng();
    let token = keywright_domain::pkce::random_token(&mut entropy);
    let token = token.expose();
    let prefix = keywright_domain::api_keys::Prefix::new("sk_live")?;
    let key = keywright_domain::api_keys::PlainKey::generate(&prefix, &mut entropy);
    let key = key.text().expose().to_owned();
    let planted = [
        key,
        token.to_owned(),
        format!("/invitations/{token}"),
        format!("/callback?code={token}&state=s"),
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln".to_owned(),
        format!("whsec_{token}="),
        "kw_reg_AAAAAAAAAAAAAAAA".to_owned(),
        "WDJB-MJHT".to_owned(),
        "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ".to_owned(),
        "otpauth://totp/Keywright".to_owned(),
        "authorization: Basic dGhpcmQ6c2VjcmV0LXNlY3JldA==".to_owned(),
        "-----BEGIN PRIVATE KEY-----".to_owned(),
        r#"{"kty":"EC","d":"c2VjcmV0LXNlY3JldC1zZWNyZXQ"}"#.to_owned(),
        r#"{\"kty\":\"EC\",\"d\":\"c2VjcmV0LXNlY3JldC1zZWNyZXQ\"}"#.to_owned(),
        "$argon2id$v=19".to_owned(),
        "postgres://keywright:hunter2@db/keywright".to_owned(),
        "password=correct-horse".to_owned(),
    ];
    for secret in &planted {
        let line = format!(r#"{{"level":"INFO","fields":{{"message":"{secret}"}}}}"#);
        let found = findings(&line);
        ensure!(!found.is_empty(), "{secret} is not found");
    }
    keep_out_of(&serde_json::json!({"nested": [{"password": "a phrase that no form knows"}]}));
    keep_out_of_address("/set-up?token=short-but-secret");
    for secret in ["a phrase that no form knows", "short-but-secret"] {
        let found = findings(&format!("about {secret}\n"));
        ensure!(
            found == ["line 1: a secret of the tests: about <…>"],
            "{found:?}"
        );
    }
    let id = keywright_domain::base62::random_id(&mut entropy);
    let ordinary = format!(
        "{{\"timestamp\":\"2026-11-29T06:00:00.000000Z\",\"level\":\"INFO\",\"message\":\"request\",\
         \"route\":\"/api/v1/keys/{{id}}/rotations/{{rotation}}\",\"code\":\"key_not_found\",\"id\":\"{id}\",\
         \"trace\":\"4bf92f3577b34da6a3ce929d0e0e4736\"}}"
    );
    ensure!(findings(&ordinary).is_empty(), "{:?}", findings(&ordinary));
    Ok(())
}
