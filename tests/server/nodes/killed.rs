//! A node of three is killed in the middle of what it was asked for: what was answered holds at the others, what was
//! not happened whole or not at all, and asked for again at another node it happens once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use keywright_domain::base62::random_id;
use serde_json::{Value, json};

use super::parts::Three;
use super::{SECOND, text};
use crate::server::harness::Options;
use crate::server::kill::held::Held;
use crate::support::postgres::Database;

/// Who is killed.
const VICTIM: usize = 2;
const OTHERS: [usize; 2] = [0, 1];
const ISSUE: &str = "/api/v1/keys";
/// Memory counts for less; the rest is for a busy machine.
const AGREED: Duration = Duration::from_millis(1_100);

/// When it is killed.
#[derive(Clone, Copy, Debug)]
enum When {
    /// Its change is made and cannot be committed: for certain in the middle.
    Held,
    /// When the answer came.
    Answered,
}

/// What is done to a key by one request, and what comes of it.
struct Change {
    name: &'static str,
    /// Of these, `{id}` is the key, `{rotations}` its rotations, `{kid}` its old secret and `{owner}` whose it is.
    before: &'static [&'static str],
    path: &'static str,
    /// The key has a new secret, which is in use, beside the old one.
    is_rotating: bool,
    /// Which secrets are good before and after: the old one, and the new one.
    good: [[bool; 2]; 2],
}

const OLD: [bool; 2] = [true, false];
const NEW: [bool; 2] = [false, true];
const BOTH: [bool; 2] = [true, true];
const NONE: [bool; 2] = [false, false];

const CHANGES: &[Change] = &[
    Change {
        name: "revocation",
        before: &[],
        path: "/api/v1/keys/{id}/revoke",
        is_rotating: false,
        good: [OLD, NONE],
    },
    Change {
        name: "revocation of two secrets",
        before: &[],
        path: "/api/v1/keys/{id}/revoke",
        is_rotating: true,
        good: [BOTH, NONE],
    },
    Change {
        name: "suspension",
        before: &[],
        path: "/api/v1/keys/{id}/disable",
        is_rotating: false,
        good: [OLD, NONE],
    },
    Change {
        name: "end of a suspension",
        before: &["/api/v1/keys/{id}/disable"],
        path: "/api/v1/keys/{id}/enable",
        is_rotating: false,
        good: [NONE, OLD],
    },
    Change {
        name: "end of an overlap",
        before: &[],
        path: "{rotations}/current/finish",
        is_rotating: true,
        good: [BOTH, NEW],
    },
    Change {
        name: "roll-back",
        before: &[],
        path: "{rotations}/current/roll-back",
        is_rotating: true,
        good: [BOTH, OLD],
    },
    Change {
        name: "end of one secret",
        before: &[],
        path: "/api/v1/keys/{id}/secrets/{kid}/revoke",
        is_rotating: true,
        good: [BOTH, NEW],
    },
    Change {
        name: "all keys of an owner",
        before: &[],
        path: "/api/v1/owners/{owner}/revoke-keys",
        is_rotating: false,
        good: [OLD, NONE],
    },
    Change {
        name: "suspension of a person",
        before: &[],
        path: "/api/v1/users/{owner}/disable",
        is_rotating: false,
        good: [OLD, NONE],
    },
    Change {
        name: "end of a person's suspension",
        before: &["/api/v1/users/{owner}/disable"],
        path: "/api/v1/users/{owner}/enable",
        is_rotating: false,
        good: [NONE, OLD],
    },
];

/// A key and its secrets; the new one is empty where there is none.
struct Key {
    id: String,
    kid: String,
    owner: String,
    secrets: [String; 2],
}

impl Key {
    async fn of(three: &Three, case: &Change) -> Result<Self> {
        let first = three.caller(0);
        let name = random_id(&mut rand::rng());
        let (status, person) = first
            .post("/api/v1/users", &json!({ "name": name }))
            .await?;
        ensure!(status == 201, "{status} {person}");
        let owner = text(&person["id"])?.to_owned();
        let (id, old) = three
            .issue(json!({ "owner": { "kind": "person", "id": owner } }))
            .await?;
        let (_, seen) = first.get(&format!("/api/v1/keys/{id}")).await?;
        let kid = text(&seen["secrets"][0]["kid"])?.to_owned();
        let mut new = String::new();
        if case.is_rotating {
            let path = format!("/api/v1/keys/{id}/rotations");
            let (status, rotated) = first.post(&path, &json!({})).await?;
            ensure!(status == 201, "{status} {rotated}");
            text(&rotated["secret"])?.clone_into(&mut new);
            // Its first use begins the overlap.
            ensure!(first.code(&new).await? == "valid");
        }
        let key = Self {
            id,
            kid,
            owner,
            secrets: [old, new],
        };
        for path in case.before {
            let (status, answer) = first.post(&key.path(path), &json!({})).await?;
            ensure!(status == 200, "{path}: {status} {answer}");
        }
        Ok(key)
    }

    fn body(path: &str) -> Value {
        match path.ends_with("/revoke") {
            true => json!({ "reason": "a test" }),
            false => json!({}),
        }
    }

    fn path(&self, template: &str) -> String {
        let rotations = format!("/api/v1/keys/{}/rotations", self.id);
        template
            .replace("{rotations}", &rotations)
            .replace("{id}", &self.id)
            .replace("{kid}", &self.kid)
            .replace("{owner}", &self.owner)
    }

    /// Which of its secrets are good at a node.
    async fn good_at(&self, three: &Three, node: usize) -> Result<[bool; 2]> {
        let mut good = [false; 2];
        for (secret, is_good) in self.secrets.iter().zip(&mut good) {
            if secret.is_empty() {
                continue;
            }
            // A node that was just started may not know yet.
            let end = Instant::now() + SECOND * 3;
            let code = loop {
                let code = three.caller(node).code(secret).await?;
                if code != "503" {
                    break code;
                }
                ensure!(Instant::now() < end, "node {node} does not know");
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            *is_good = code == "valid";
        }
        Ok(good)
    }
}

/// Where it is asked for: nobody waits for a receipt, as the kill is to come with the answer.
fn address(path: &str) -> String {
    let has_receipt = path != ISSUE && !path.ends_with("/enable");
    format!("{path}{}", if has_receipt { "?wait_ms=0" } else { "" })
}

/// Asks the victim and kills it. None if no answer came.
async fn strike(
    three: &Three,
    database: &str,
    path: &str,
    body: &Value,
    once: &str,
    when: When,
) -> Result<Option<(u16, Value)>> {
    let mut held = match when {
        When::Held => Some(Held::begin(Some(database), &three.first().data()).await?),
        _ => None,
    };
    let (caller, body) = (three.caller(VICTIM), body.clone());
    let (address, once) = (address(path), once.to_owned());
    let mut asked = tokio::spawn(async move { caller.post_once(&address, &body, &once).await });
    let mut answered = None;
    match &mut held {
        Some(held) => held.is_waited_for(false, &asked).await?,
        None => answered = Some((&mut asked).await?),
    }
    three.signal(VICTIM, "KILL")?;
    if let Some(held) = held {
        held.let_go().await?;
    }
    match answered {
        Some(answered) => answered.map(Some),
        None => Ok(asked.await?.ok()),
    }
}

/// The row that a dead node held is free again: the others write, and agree within a second.
async fn others_are_at_work(three: &Three) -> Result<()> {
    let (mine, fresh) = three.issue(json!({})).await?;
    let path = format!("/api/v1/keys/{mine}/revoke?wait_ms=0");
    let (status, answer) = three.caller(1).post(&path, &json!({})).await?;
    ensure!(status == 200, "{answer}");
    let end = Instant::now() + AGREED;
    for node in OTHERS {
        loop {
            let is_late = Instant::now() > end;
            let code = three.caller(node).code(&fresh).await?;
            if code == "revoked" {
                break;
            }
            ensure!(!is_late, "{code} at {node} of what another one revoked");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// One change, struck once.
async fn round(three: &mut Three, database: &str, case: &Change, when: When) -> Result<()> {
    let key = Key::of(three, case).await?;
    let [before, after] = case.good;
    // The other nodes know of it, and the victim remembers it.
    let end = Instant::now() + SECOND * 3;
    for node in 0..3 {
        while key.good_at(three, node).await? != before {
            ensure!(Instant::now() < end, "node {node} does not follow");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let (path, once) = (key.path(case.path), random_id(&mut rand::rng()));
    let body = Key::body(&path);
    let answered = strike(three, database, &path, &body, &once, when).await?;
    others_are_at_work(three).await?;
    let seen = [key.good_at(three, 0).await?, key.good_at(three, 1).await?];
    ensure!(seen[0] == seen[1], "they do not agree: {seen:?}");
    ensure!(
        seen[0] == before || seen[0] == after,
        "half of it: {seen:?}"
    );
    if let Some((status, answer)) = &answered {
        ensure!(*status == 200, "{status} {answer}");
        ensure!(seen[0] == after, "what was answered was undone");
    }
    ensure!(
        !matches!(when, When::Held) || (answered.is_none() && seen[0] == before),
        "it was committed, and somebody held it"
    );
    // Asked for again, elsewhere, under the same name: it is done, and done once.
    let other = three.caller(1);
    let (status, again) = other.post_once(&address(&path), &body, &once).await?;
    ensure!(
        status == 200 || (status == 409 && seen[0] == after),
        "{status} {again}"
    );
    three.again(VICTIM).await?;
    let end = Instant::now() + SECOND * 3;
    for node in [1, 0, VICTIM] {
        while key.good_at(three, node).await? != after {
            ensure!(node != 1, "not at the one that was asked");
            ensure!(Instant::now() < end, "node {node} does not follow");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// A key that was issued, or rotated at once: what was told works at the others, and there is one.
async fn issue(three: &mut Three, database: &str, is_rotation: bool, when: When) -> Result<()> {
    let name = random_id(&mut rand::rng());
    let (id, old) = three.issue(json!({ "name": name })).await?;
    let (path, body) = if is_rotation {
        let path = format!("/api/v1/keys/{id}/rotations");
        (path, json!({ "overlap_ms": 0 }))
    } else {
        let wish = Three::wish(json!({ "name": format!("{name}-new") }));
        (ISSUE.to_owned(), wish)
    };
    let once = random_id(&mut rand::rng());
    let answered = strike(three, database, &path, &body, &once, when).await?;
    others_are_at_work(three).await?;
    let told = |answer: &Value| answer["secret"].as_str().map(str::to_owned);
    if let Some((status, answer)) = &answered {
        ensure!(*status == 201, "{status} {answer}");
        let secret = told(answer).context("no secret")?;
        for node in OTHERS {
            let code = three.caller(node).code(&secret).await?;
            ensure!(code == "valid", "what was told at one is {code} at {node}");
        }
    }
    let held = matches!(when, When::Held);
    ensure!(!held || answered.is_none(), "somebody held it");
    let other = three.caller(1);
    let (status, again) = other.post_once(&address(&path), &body, &once).await?;
    ensure!(matches!(status, 200 | 201), "{status} {again}");
    ensure!(
        !held || status == 201,
        "it was committed, and somebody held it"
    );
    if let (201, Some(secret)) = (status, told(&again)) {
        ensure!(answered.is_none(), "done twice");
        ensure!(three.caller(1).code(&secret).await? == "valid");
    }
    let (list, is_it): (String, fn(&Value, &str) -> bool) = if is_rotation {
        (path, |_, _| true)
    } else {
        (format!("{ISSUE}?limit=100"), |one, name| {
            one["name"] == format!("{name}-new")
        })
    };
    let (_, list) = three.caller(0).get(&list).await?;
    let items = list["items"].as_array().context("no items")?;
    let many = items.iter().filter(|one| is_it(one, &name)).count();
    ensure!(many == 1, "{many} of one request");
    if is_rotation {
        let codes = [
            three.caller(0).code(&old).await?,
            three.caller(1).code(&old).await?,
        ];
        ensure!(!codes.contains(&"valid".to_owned()), "{codes:?}");
    }
    three.again(VICTIM).await
}

/// Each of them, killed then.
async fn all(when: When) -> Result<()> {
    let database = Database::create().await?;
    let url = database.url().to_owned();
    let mut three = Three::on(&url, Options::default()).await?;
    let mut wrong = Vec::new();
    let changes = CHANGES.iter().map(|change| (change.name, Some(change)));
    for (name, change) in changes.chain([("issue", None), ("rotation", None)]) {
        let struck = match change {
            Some(change) => round(&mut three, &url, change, when).await,
            None => issue(&mut three, &url, name == "rotation", when).await,
        };
        if let Err(error) = struck {
            wrong.push(format!("{name}: {error:#}"));
            // The next one finds it alive.
            let _ = three.signal(VICTIM, "KILL");
            three.again(VICTIM).await?;
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    // The dead are forgotten: after some seconds a receipt waits for nobody.
    crate::support::until("a receipt of the three alone", async || {
        let (id, _) = three.issue(json!({})).await.ok()?;
        let (_, revoked) = three
            .caller(0)
            .post(&format!("/api/v1/keys/{id}/revoke"), &json!({}))
            .await
            .ok()?;
        let nodes = revoked["receipt"]["nodes"].as_array()?;
        let all = nodes.iter().all(|node| node["acknowledged"] == true);
        (nodes.len() == 3 && all).then_some(())
    })
    .await?;
    three.close().await?;
    database.close().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_ac_204_a_node_killed_in_the_middle_leaves_the_others_at_work() -> Result<()> {
    all(When::Held).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_140_ac_204_a_node_killed_when_it_answered_is_believed_by_the_others() -> Result<()> {
    all(When::Answered).await
}
