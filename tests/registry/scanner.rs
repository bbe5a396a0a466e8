//! The scanner rules that ship: each finds every key whole in the syntaxes people write, and what
//! else it finds is ruled out by the checksum.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use keywright_domain::api_keys::{PlainKey, Prefix};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use regex::bytes::{Regex, RegexBuilder};

/// Told by every failure, so that it can be seen again.
const SEED: u64 = 0x4b59_5752_5431;
const LOOK_ALIKES: usize = 120_000;
const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const HEX: &[u8] = b"0123456789abcdef";
const BASE64URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Where people put keys; `{}` is the key.
const SYNTAXES: &[(&str, &str)] = &[
    ("alone", "{}"),
    (".env", "KEYWRIGHT_KEY={}\nDEBUG=1\n"),
    (".env, quoted", "KEYWRIGHT_KEY='{}'"),
    ("shell export", "export API_KEY=\"{}\" && ./run"),
    ("shell default", ": ${API_KEY:={}}"),
    ("command line", "deploy --api-key={} --verbose"),
    (
        "curl header",
        "curl -H 'Authorization: Bearer {}' https://api.example.com",
    ),
    ("curl user", "curl -u {}: https://api.example.com/v1"),
    ("HTTP header", "X-Api-Key: {}\r\nAccept: */*\r\n"),
    (
        "URL query",
        "https://api.example.com/v1/orders?key={}&page=2",
    ),
    ("URL fragment", "https://app.example.com/#{}"),
    ("URL path", "https://api.example.com/{}/orders"),
    ("URL user", "https://{}@api.example.com/"),
    (
        "URL in a URL",
        "https://a.example/login?next=https%3A%2F%2Fb.example%2F%3Fkey%3D{}%26x%3D1",
    ),
    ("URL, percent-encoded space", "q=key%20{}%20end"),
    ("JSON", r#"{"apiKey":"{}","limit":3}"#),
    (
        "JSON, spread out",
        "{\n  \"keys\": [\n    \"{}\",\n    \"{}\"\n  ]\n}",
    ),
    ("JSON in JSON", r#"{"body":"{\"apiKey\":\"{}\"}"}"#),
    (
        "JSON in JSON in JSON",
        r#"{"b":"{\"b\":\"{\\\"k\\\":\\\"{}\\\"}\"}"}"#,
    ),
    (
        "JSON, escaped line ends",
        r#"{"log":"started\n{}\r\n\t{}\ndone"}"#,
    ),
    (
        "JSON, escaped for HTML",
        r#"{"url":"/a?b=1\u0026{}\u0026key\u003d{}"}"#,
    ),
    ("YAML", "api:\n  key: {}\n  timeout: 3\n"),
    ("YAML list", "keys:\n- {}\n- \"{}\"\n"),
    ("YAML flow", "api: {key: {}, retries: 2}"),
    ("YAML block", "script: |\n  login {}\n  run\n"),
    ("TOML", "[api]\nkey = \"{}\" # production\n"),
    ("ini", "[api]\nkey={}\n;old={}\n"),
    ("Java properties", "api.key = {}\napi.host=localhost\n"),
    ("Python", "client = Client(api_key='{}')"),
    ("Python bytes", "KEY = b\"{}\""),
    (
        "Python f-string",
        "headers = {'Authorization': f'Bearer {}'}",
    ),
    ("Python, three quotes", "'''{}'''"),
    ("JavaScript", "const client = new Client(`{}`);"),
    ("JavaScript object", "module.exports={apiKey:'{}',id:1}"),
    ("TypeScript", "export const KEY: string = \"{}\" as const;"),
    ("Go", "const key = `{}`\nvar k = []byte(\"{}\")"),
    ("Rust", "const KEY: &str = r#\"{}\"#;"),
    ("Java", "private static final String KEY = \"{}\";"),
    ("Kotlin", "val key = \"\"\"{}\"\"\""),
    (
        "PHP",
        "<?php define('API_KEY', '{}'); $k = [\"key\" => \"{}\"];",
    ),
    ("Ruby", "config.key = %q({}) # or :key => '{}'"),
    ("C#", "var key = @\"{}\";"),
    ("C, with an escape", r#"const char *line = "key\x3d{}\n";"#),
    ("Swift", "let key = #\"{}\"#"),
    (
        "Dockerfile",
        "FROM debian\nENV API_KEY={}\nARG KEY=\"{}\"\n",
    ),
    ("Docker Compose", "    environment:\n      - API_KEY={}\n"),
    (
        "Kubernetes secret",
        "apiVersion: v1\nkind: Secret\nstringData:\n  api-key: {}\n",
    ),
    ("Terraform", "variable \"key\" {\n  default = \"{}\"\n}\n"),
    ("GitHub workflow", "      env: { KEY: '{}' }\n"),
    (".npmrc", "//registry.example.com/:_authToken={}\n"),
    (
        ".netrc",
        "machine api.example.com login token password {}\n",
    ),
    (".pgpass", "localhost:5432:db:user:{}\n"),
    (
        "git config",
        "[http]\n\textraHeader = Authorization: Bearer {}\n",
    ),
    ("git remote", "url = https://token:{}@git.example.com/a.git"),
    ("XML", "<config><key>{}</key></config>"),
    ("XML attribute", "<add key=\"ApiKey\" value=\"{}\"/>"),
    ("XML CDATA", "<key><![CDATA[{}]]></key>"),
    ("HTML attribute", "<script data-key='{}' async></script>"),
    ("HTML, not quoted", "<meta name=key content={}>"),
    ("HTML comment", "<!--{}-->"),
    ("CSV", "name,key,created\nshop,{},2026\n"),
    ("CSV, quoted", "\"shop\",\"{}\",\"{}\"\n"),
    ("TSV", "shop\t{}\t2026\n"),
    (
        "log line",
        "2026-01-02T03:04:05Z WARN auth: refused key={} ip=10.0.0.1",
    ),
    ("log line in brackets", "[auth] [{}] refused"),
    (
        "log line in colours",
        "\u{1b}[33mkey\u{1b}[0m=\u{1b}[1;32m{}\u{1b}[0m",
    ),
    ("diff, added", "@@ -1 +1 @@\n+{}\n"),
    ("diff, removed", "-KEY={}\n+KEY=${KEY}\n"),
    ("Markdown code", "Use `{}` for tests."),
    ("Markdown block", "```sh\nexport KEY={}\n```\n"),
    ("Markdown bold", "Your key is **{}**."),
    ("Markdown link", "[docs](https://example.com/?key={})"),
    ("Markdown table", "|name|key|\n|---|---|\n|shop|{}|\n"),
    ("mail", "Hello,\r\n\r\nyour key: {}.\r\n\r\n> {}\r\n"),
    ("chat", "@dana try <{}>, thanks!"),
    ("prose", "The key ({}) was made today; {}, too."),
    ("German prose", "Schlüssel„{}“ für später…{}…"),
    ("Makefile", "deploy:\n\tKEY={} ./deploy.sh\n"),
    ("PowerShell", "$env:API_KEY = \"{}\"; $k='{}'"),
    ("Windows batch", "set API_KEY={}\r\n"),
    ("SQL", "INSERT INTO settings VALUES ('key', '{}');"),
    ("nginx", "proxy_set_header X-Api-Key \"{}\";"),
    ("systemd", "Environment=\"API_KEY={}\"\n"),
    ("Lua", "local key = [[{}]]"),
    ("Lisp", "(setq api-key \"{}\")"),
    ("shell history", ": 1700000000:0;login {}"),
    ("two keys, one character between", "{} {},{}"),
    ("NUL on both sides", "\0{}\0"),
];

/// A rule as a scanner runs it: RE2 knows words of ASCII only.
struct Rule {
    file: &'static str,
    regex: Regex,
}

impl Rule {
    fn found<'a>(&self, text: &'a str) -> Vec<&'a str> {
        self.regex
            .captures_iter(text.as_bytes())
            .filter_map(|found| std::str::from_utf8(found.get(1)?.as_bytes()).ok())
            .collect()
    }
}

/// Both rules, out of the files that ship.
fn rules() -> Result<Vec<Rule>> {
    let read = |file: &'static str, start: &str, end: &str, keyword: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/scanners");
        let text = fs::read_to_string(folder.join(file))?;
        let expressions: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix(start)?.strip_suffix(end))
            .collect();
        ensure!(expressions.len() == 1, "{file}: {expressions:?}");
        ensure!(text.contains(keyword), "{file}: not {keyword}");
        let regex = RegexBuilder::new(expressions[0]).unicode(false).build();
        Ok(Rule {
            file,
            regex: regex.context(file)?,
        })
    };
    Ok(vec![
        read(
            "gitleaks.toml",
            "regex = '''",
            "'''",
            "keywords = [\"kywrt1\"]",
        )?,
        read("trufflehog.yaml", "key: '", "'", "- KYWRT1\n")?,
    ])
}

#[allow(
    clippy::expect_used,
    reason = "a prefix that is not allowed is a mistake of the test"
)]
fn key(prefix: &str, dice: &mut StdRng) -> String {
    let prefix = Prefix::new(prefix).expect("a prefix");
    PlainKey::generate(&prefix, dice).text().expose().to_owned()
}

fn text_of(alphabet: &[u8], length: usize, dice: &mut StdRng) -> String {
    (0..length)
        .map(|_| char::from(alphabet[dice.random_range(0..alphabet.len())]))
        .collect()
}

/// Any prefix that is allowed.
fn prefix(dice: &mut StdRng) -> String {
    let inside = dice.random_range(0..=14);
    let letters = &BASE62[10..];
    let mut with_bar = BASE62.to_vec();
    with_bar.push(b'_');
    text_of(letters, 1, dice) + &text_of(&with_bar, inside, dice) + &text_of(BASE62, 1, dice)
}

#[test]
fn both_scanners_find_keys_by_the_same_expression() -> Result<()> {
    let rules = rules()?;
    assert_eq!(rules[0].regex.as_str(), rules[1].regex.as_str());
    Ok(())
}

#[test]
fn every_key_is_found_whole_in_every_syntax() -> Result<()> {
    assert!(SYNTAXES.len() >= 40);
    let rules = rules()?;
    let mut dice = StdRng::seed_from_u64(SEED);
    for round in 0..40 {
        let prefix = match round {
            0 => "sk_live".to_owned(),
            1 => "pk_test".to_owned(),
            2 => "kw_root".to_owned(),
            3 => "ab".to_owned(),
            4 => "n1".to_owned(),
            5 => "A23456789_123456".to_owned(),
            _ => prefix(&mut dice),
        };
        let (mut whole_file, mut whole_keys) = (String::new(), Vec::new());
        for (syntax, template) in SYNTAXES {
            let (mut text, mut keys) = (String::new(), Vec::new());
            let mut parts = template.split("{}");
            text.push_str(parts.next().unwrap_or_default());
            for part in parts {
                let key = key(&prefix, &mut dice);
                text.push_str(&key);
                text.push_str(part);
                keys.push(key);
            }
            for rule in &rules {
                let found = rule.found(&text);
                assert_eq!(
                    found, keys,
                    "{} in {syntax}, seed {SEED}: {text}",
                    rule.file
                );
            }
            assert!(keys.iter().all(|key| PlainKey::parse(key).is_ok()));
            whole_file.push_str(&text);
            whole_file.push('\n');
            whole_keys.extend(keys);
        }
        for rule in &rules {
            assert_eq!(rule.found(&whole_file), whole_keys, "{}", rule.file);
        }
    }
    Ok(())
}

#[test]
fn a_key_inside_other_letters_is_left_alone_and_not_cut() -> Result<()> {
    let rules = rules()?;
    let mut dice = StdRng::seed_from_u64(SEED);
    for _ in 0..2_000 {
        let key = key(&prefix(&mut dice), &mut dice);
        let length = dice.random_range(1..40);
        let noise = text_of(BASE62, length, &mut dice);
        for text in [
            format!("{key}{noise}"),
            format!("{key}_{noise}"),
            format!("{noise}{key}{noise}"),
            format!("{}{key}", text_of(BASE62, 16, &mut dice)),
            format!("{key}{key}"),
        ] {
            for rule in &rules {
                let found = rule.found(&text);
                assert!(found.is_empty(), "{}, seed {SEED}: {text}", rule.file);
            }
        }
    }
    Ok(())
}

/// What a look-alike is made like; the scanner's expression may or may not fall for it.
const KINDS: &[(&str, bool)] = &[
    ("one character changed", true),
    ("two characters swapped", true),
    ("one character lost, one added", true),
    ("another checksum", true),
    ("another prefix, by the same length or not", true),
    ("halves of two keys", true),
    ("noise with the marker in its place", true),
    ("letters before the key", true),
    ("small letters become capitals after the marker", true),
    ("marker moved", false),
    ("marker in small letters", false),
    ("noise of a key's length", false),
    ("noise after a prefix", false),
    ("UUID", false),
    ("JWT", false),
    ("hash", false),
    ("another vendor's token", false),
];

fn look_alike(kind: &str, dice: &mut StdRng) -> String {
    let prefix = prefix(dice);
    let key = key(&prefix, dice);
    let after = prefix.len() + 1;
    let with = |at: usize, new: &str| {
        let mut text = key.clone();
        text.replace_range(at..at + new.len(), new);
        text
    };
    match kind {
        "one character changed" => {
            let at = dice.random_range(0..key.len());
            with(at, &text_of(BASE62, 1, dice))
        }
        "two characters swapped" => {
            let at = dice.random_range(0..key.len() - 1);
            let swapped: String = key[at..at + 2].chars().rev().collect();
            with(at, &swapped)
        }
        "one character lost, one added" => {
            let mut text = key.clone();
            text.remove(dice.random_range(after..after + 12));
            text.insert(dice.random_range(after..after + 12), '0');
            text
        }
        "another checksum" => with(key.len() - 6, &text_of(BASE62, 6, dice)),
        "another prefix, by the same length or not" => self::prefix(dice) + &key[after - 1..],
        "halves of two keys" => {
            let other = self::key(&prefix, dice);
            let cut = dice.random_range(after + 12..key.len());
            key[..cut].to_owned() + &other[cut..]
        }
        "noise with the marker in its place" => {
            let (kid, rest) = (text_of(BASE62, 12, dice), text_of(BASE62, 38, dice));
            format!("{prefix}_{kid}KYWRT1{rest}")
        }
        "letters before the key" => {
            let length = dice.random_range(1..=16);
            text_of(&BASE62[10..], length, dice) + &key
        }
        "small letters become capitals after the marker" => {
            with(after + 18, &key[after + 18..].to_ascii_uppercase())
        }
        "marker moved" => {
            let mut tail = key[after..].replacen("KYWRT1", "", 1);
            let places: Vec<usize> = (0..=50).filter(|at| *at != 12).collect();
            tail.insert_str(places[dice.random_range(0..places.len())], "KYWRT1");
            format!("{prefix}_{tail}")
        }
        "marker in small letters" => with(after + 12, "kywrt1"),
        "noise of a key's length" => {
            let length = dice.random_range(59..=73);
            text_of(BASE62, length, dice)
        }
        "noise after a prefix" => format!("{prefix}_{}", text_of(BASE62, 56, dice)),
        "UUID" => [8, 4, 4, 4, 12].map(|n| text_of(HEX, n, dice)).join("-"),
        "JWT" => {
            let parts = [36, 120, 43].map(|length| text_of(BASE64URL, length, dice));
            format!("eyJ{}", parts.join("."))
        }
        "hash" => {
            let length = [32, 40, 64, 128][dice.random_range(0..4)];
            text_of(HEX, length, dice)
        }
        _ => vendor_token(dice),
    }
}

fn vendor_token(dice: &mut StdRng) -> String {
    let (start, length) = [
        ("ghp_", 36),
        ("github_pat_", 82),
        ("glpat-", 20),
        ("sk_live_", 24),
        ("sk_live_", 99),
        ("rk_test_", 24),
        ("sk-proj-", 48),
        ("xoxb-", 50),
        ("AKIA", 16),
        ("AIza", 35),
        ("npm_", 36),
        ("pypi-", 85),
        ("SG.", 66),
        ("hf_", 34),
        ("dop_v1_", 64),
        ("shpat_", 32),
    ][dice.random_range(0..16)];
    format!("{start}{}", text_of(BASE62, length, dice))
}

fn dice_of(number: usize) -> StdRng {
    StdRng::seed_from_u64(SEED + number as u64)
}

#[test]
fn the_checksum_rules_out_every_look_alike() -> Result<()> {
    let rules = rules()?;
    let mut candidates = 0;
    for number in 0..LOOK_ALIKES {
        let (kind, may_be_found) = KINDS[number % KINDS.len()];
        let text = look_alike(kind, &mut dice_of(number));
        // A change may by chance change nothing: then it is a key, and found rightly.
        if PlainKey::parse(&text).is_ok() {
            let original = original(&mut dice_of(number));
            assert_eq!(text, original, "{kind}, number {number}, seed {SEED}");
            continue;
        }
        let line = format!("token = \"{text}\" # {number}");
        for rule in &rules {
            for found in rule.found(&line) {
                let at = format!("{}: {kind}, number {number}, seed {SEED}", rule.file);
                assert!(may_be_found, "{at}: {found} has not even the shape");
                assert!(PlainKey::parse(found).is_err(), "{at}: {found}");
                candidates += 1;
            }
        }
    }
    // Or the checksum would have had nothing to do.
    assert!(candidates > LOOK_ALIKES / 2, "{candidates}");
    Ok(())
}

/// The key that a look-alike was made from: the first two things its maker draws.
fn original(dice: &mut StdRng) -> String {
    let prefix = prefix(dice);
    key(&prefix, dice)
}
