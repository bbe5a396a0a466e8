//! Keys that are refused, by the same body as those that are accepted.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use keywright_domain::api_keys::{PlainKey, Prefix};
use serde_json::Value;

use crate::cases::{Bench, JSON, ask, drawn, one};
use crate::wire::{Next, Says, Target, request};

/// As many made-up keys as others are asked for.
const MADE_UP: usize = 1_000;
/// Where the address in a body is written over, by others of the same length.
const PLACE: &str = "127.000.000.000";

impl Bench<'_> {
    /// A malformed key, and one that nobody was given: its kid is in no database.
    pub(crate) async fn refused(&self) -> Result<()> {
        let malformed = self.facts.keys.iter().take(MADE_UP).map(|key| {
            let mut key = key.clone();
            key.pop();
            key + "!"
        });
        let prefix = Prefix::new("sk_live")?;
        let made_up = (0..MADE_UP).map(|_| {
            let key = PlainKey::generate(&prefix, &mut rand::rng());
            key.text().expose().to_owned()
        });
        for (case, keys, says) in [
            (
                "verify_refused",
                malformed.collect(),
                "\"code\":\"malformed\"",
            ),
            (
                "verify_refused_unknown",
                made_up.collect(),
                "\"code\":\"not_found\"",
            ),
        ] {
            let target = self.presenting(keys)?.saying(Says::once(says));
            let before = self.kids_asked_for().await;
            self.beside(case, &target, &self.verify(one), "verify_json", 1.0)
                .await?;
            let after = self.kids_asked_for().await;
            ensure!(
                before == after,
                "{case}: the database was asked: {before:?}, {after:?}"
            );
        }
        Ok(())
    }

    /// Each time from another address: who fails often is told to wait, and that is not what is measured here.
    fn presenting(&self, keys: Vec<String>) -> Result<Target> {
        let root = format!("Bearer {}", self.facts.root_key);
        let headers = [JSON, ("Authorization", root.as_str())];
        let requests: Vec<Vec<u8>> = keys
            .iter()
            .map(|key| {
                let mut body = one(key);
                body["address"] = Value::from(PLACE);
                let body = body.to_string();
                request("POST", "/api/v1/keys/verify", &headers, body.as_bytes())
            })
            .collect();
        // The same in each: keys are of one length, and so is what is around them.
        let first = requests.first().context("no keys")?;
        let mut places = first.windows(PLACE.len());
        let at = places.position(|text| text == PLACE.as_bytes());
        let at = at.context("no address")?;
        let next: Next = Arc::new(move |line, turn, _| {
            let drawn = drawn(line, turn);
            let mut request = requests[drawn % requests.len()].clone();
            let address = drawn >> 24;
            for (part, place) in [(0, 4), (7, 8), (14, 12)] {
                // 100 to 227: three digits, whatever it is.
                let number = 100 + (address >> part & 0x7f);
                for (digit, of) in [100, 10, 1].into_iter().enumerate() {
                    request[at + place + digit] = b'0' + (number / of % 10) as u8;
                }
            }
            request
        });
        Ok(Target {
            address: self.facts.address.clone(),
            next,
            status: 200,
            says: Says::ANYTHING,
        })
    }

    /// How many kids the database was asked for until now; nothing if the serving half is of a build before this.
    async fn kids_asked_for(&self) -> Option<u64> {
        let answer = ask(
            &self.facts.bare,
            &request("GET", "/kids-asked-for", &[], b""),
        )
        .await;
        answer.ok()?.as_u64()
    }
}
