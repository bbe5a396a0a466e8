//! Guesses that processes count together by Redis, and each by itself without it: passwords (AC-180), user
//! codes (AC-171), secrets of clients (S18).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tokio::task::JoinSet;

use super::parts::{Three, client};
use super::redis::{Redis, all_count_by_redis, three_on};
use crate::server::harness::{OWNER, PASSWORD};
use crate::support::postgres::Database;

const SECRET: &str = "a-long-secret-of-a-confidential-client-0123456789";
/// A busy machine may let Redis answer too late: what it counted then only one node knows.
const LATE: usize = 4;

/// One request to a node.
trait Guess {
    async fn at(&self, base: &str) -> Result<u16>;
}

struct Login<'a>(&'a str, &'a str);

impl Guess for Login<'_> {
    async fn at(&self, base: &str) -> Result<u16> {
        let body = json!({ "email": self.0, "password": self.1 });
        let request = client()?.post(format!("{base}/auth/login")).json(&body);
        Ok(request.send().await?.status().as_u16())
    }
}

struct UserCode<'a>(&'a str);

impl Guess for UserCode<'_> {
    async fn at(&self, base: &str) -> Result<u16> {
        let request = client()?.get(format!("{base}/device?user_code=BCDF-GHJK"));
        let request = request.header("cookie", self.0);
        Ok(request.send().await?.status().as_u16())
    }
}

struct Client<'a>(&'a str);

impl Guess for Client<'_> {
    async fn at(&self, base: &str) -> Result<u16> {
        let request = client()?.post(format!("{base}/oauth2/introspect"));
        let request = request
            .basic_auth("svc", Some(self.0))
            .form(&[("token", "x")]);
        Ok(request.send().await?.status().as_u16())
    }
}

/// Guesses at two nodes in turn until one says that it is enough. Returns how many it took.
async fn until_refused(three: &Three, guess: &impl Guess, wrong: u16) -> Result<usize> {
    for tries in 0..60 {
        all_count_by_redis(three).await?;
        let status = guess.at(&three.caller(tries % 2).at("")).await?;
        match status {
            429 => return Ok(tries),
            status => ensure!(status == wrong, "{status} after {tries} tries"),
        }
    }
    anyhow::bail!("nobody said that it is enough")
}

/// Whether a node that saw none of it says so too.
async fn third_refuses(three: &Three, guess: &impl Guess) -> Result<()> {
    for _ in 0..LATE {
        // One that waited for Redis in vain leaves it alone for a while, and says so.
        all_count_by_redis(three).await?;
        if guess.at(&three.caller(2).at("")).await? == 429 {
            return Ok(());
        }
    }
    anyhow::bail!("the third node lets it through")
}

async fn counts_together(
    three: &Three,
    guess: &impl Guess,
    wrong: u16,
    allowed: usize,
) -> Result<()> {
    let tries = until_refused(three, guess, wrong).await?;
    ensure!(
        (allowed..=allowed + LATE).contains(&tries),
        "{tries} in place of {allowed}"
    );
    third_refuses(three, guess).await
}

/// The cookies of the owner, signed in at the first node.
async fn signed_in(three: &Three) -> Result<String> {
    let (at, client) = (|path: &str| three.caller(0).at(path), client()?);
    let cookies = |answer: &reqwest::Response| -> Vec<String> {
        let lines = answer.headers().get_all("set-cookie").iter();
        let first = |line: &reqwest::header::HeaderValue| {
            Some(line.to_str().ok()?.split(';').next()?.to_owned())
        };
        lines.filter_map(first).collect()
    };
    let page = client.get(at("/sign-in")).send().await?;
    let before = cookies(&page).join("; ");
    let text = page.text().await?;
    let token = text.split("name=\"csrf_token\" value=\"").nth(1);
    let token = token
        .and_then(|rest| rest.split('"').next())
        .context("no token")?;
    let fields = [
        ("email", OWNER),
        ("password", PASSWORD),
        ("return_to", "/account"),
        ("csrf_token", token),
    ];
    let request = client.post(at("/sign-in")).header("cookie", before);
    let request = request
        .header("origin", "null")
        .header("sec-fetch-site", "same-origin");
    // Its redirect goes unfollowed: the cookies are in this answer.
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let answer = client.execute(request.form(&fields).build()?).await?;
    ensure!(answer.status() == 303, "{}", answer.status());
    Ok(cookies(&answer).join("; "))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_180_ac_171_s18_guesses_are_counted_over_all_nodes_and_redis_may_go() -> Result<()> {
    let (mut redis, database) = (Redis::start().await?, Database::create().await?);
    let three = three_on(&redis, &database, "").await?;
    let flows = ["--grant", "client_credentials"];
    three
        .first()
        .add_client("svc", Some(SECRET), &flows)
        .await?;
    all_count_by_redis(&three).await?;

    // Passwords, by source and account. Another account has its own count.
    counts_together(&three, &Login("nobody@example.org", "wrong"), 401, 10).await?;
    let other = Login("somebody@example.org", "wrong");
    ensure!(other.at(&three.caller(2).at("")).await? == 401);
    // A right one forgets those before it, at all nodes. The first makes this network known: no account
    // waits for its owner at home, however often others guessed.
    let (wrong, right) = (Login(OWNER, "wrong"), Login(OWNER, PASSWORD));
    ensure!(right.at(&three.caller(0).at("")).await? == 200);
    for _ in 0..2 {
        for node in 0..3 {
            ensure!(wrong.at(&three.caller(node).at("")).await? == 401);
            ensure!(wrong.at(&three.caller(node).at("")).await? == 401);
        }
        ensure!(right.at(&three.caller(1).at("")).await? == 200);
    }

    // User codes of devices, by source and by person.
    let cookies = signed_in(&three).await?;
    counts_together(&three, &UserCode(&cookies), 400, 5).await?;

    // Secrets of clients: then the right one is not looked at either.
    counts_together(&three, &Client("wrong"), 401, 20).await?;
    third_refuses(&three, &Client(SECRET)).await?;

    // What Redis was told: nobody's address.
    let told = redis.names().await?;
    ensure!(told.contains(":guesses:accounts:"), "{told}");
    for private in ["nobody@", "127.0.0.1", "svc"] {
        ensure!(!told.contains(private), "{told}");
    }

    // Gone: each node goes by what it knows. Nobody passes unasked, and nothing fails.
    redis.kill().await?;
    let fresh = Login("fresh@example.org", "wrong");
    for tries in 0..10 {
        let status = fresh.at(&three.caller(0).at("")).await?;
        ensure!(status == 401, "{status} after {tries}");
    }
    ensure!(fresh.at(&three.caller(0).at("")).await? == 429);
    ensure!(
        fresh.at(&three.caller(1).at("")).await? == 401,
        "it has its own count"
    );
    // What a node counted itself it still knows.
    ensure!(
        Login("nobody@example.org", "wrong")
            .at(&three.caller(0).at(""))
            .await?
            != 500
    );

    // Back: together again.
    redis.again().await?;
    all_count_by_redis(&three).await?;
    counts_together(&three, &Login("later@example.org", "wrong"), 401, 10).await?;
    three.close().await?;
    database.close().await
}

/// Guesses at the password of an account, all at once at one node. Returns how many were looked at, and how
/// many were told to wait.
async fn at_once(three: &Three, email: &str, many: usize) -> Result<(usize, usize)> {
    let place = format!("{}/auth/login", three.caller(0).at(""));
    let body = json!({ "email": email, "password": "wrong" });
    // Made before: making one takes longer than a node waits for Redis.
    let request = client()?.post(place).json(&body);
    let mut all = JoinSet::new();
    for _ in 0..many {
        let request = request.try_clone().context("a body that is not at hand")?;
        all.spawn(request.send());
    }
    let (mut looked_at, mut told) = (0, 0);
    while let Some(answer) = all.join_next().await {
        match answer??.status().as_u16() {
            401 => looked_at += 1,
            429 => told += 1,
            status => anyhow::bail!("{status}"),
        }
    }
    Ok((looked_at, told))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn ac_180_s18_a_redis_that_hangs_lets_no_more_through_and_is_not_asked_each_time()
-> Result<()> {
    let (redis, database) = (Redis::start().await?, Database::create().await?);
    let three = three_on(&redis, &database, "").await?;
    let flows = ["--grant", "client_credentials"];
    three
        .first()
        .add_client("svc", Some(SECRET), &flows)
        .await?;
    all_count_by_redis(&three).await?;

    // Right secrets: Redis is asked once a second, however many come.
    let (right, third) = (Client(SECRET), three.caller(2).at(""));
    let (before, begun) = (redis.asked().await?, Instant::now());
    for _ in 0..20 {
        ensure!(right.at(&third).await? == 200);
    }
    let (asked, seconds) = (redis.asked().await? - before, begun.elapsed().as_secs());
    ensure!(
        asked <= 1 + seconds && (asked > 0 || seconds > 0),
        "asked {asked} times in {seconds} s"
    );
    // What other nodes counted meanwhile holds here a second later, for the right one too.
    until_refused(&three, &Client("wrong"), 401).await?;
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    third_refuses(&three, &right).await?;

    // Its connections are open and it says nothing: all of these wait for it at the same time.
    redis.signal("STOP")?;
    let (looked_at, told) = at_once(&three, "hangs@example.org", 30).await?;
    ensure!(
        (looked_at, told) == (10, 20),
        "{looked_at} looked at, {told} told"
    );
    // Nobody asks it any more.
    let (looked_at, told) = at_once(&three, "gone@example.org", 30).await?;
    ensure!(
        (looked_at, told) == (10, 20),
        "{looked_at} looked at, {told} told"
    );
    redis.signal("CONT")?;
    three.close().await?;
    database.close().await
}
