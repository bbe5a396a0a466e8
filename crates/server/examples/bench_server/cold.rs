//! Verification while memory holds no key: every one is asked of the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::cases::{
    Bench, CONNECTIONS, JSON, SLICE, ask, median, one, round, round2, round3, spread, tell,
};
use crate::wire::{Lines, Next, Says, Target, request};

impl Bench<'_> {
    pub(crate) async fn cold(&self) -> Result<()> {
        let case = format!("verify_cold_{}", crate::whole::label(self.facts.size));
        if !self.wants(&case) {
            return Ok(());
        }
        let asked = Arc::new(AtomicUsize::new(0));
        let mut ours = Lines::open(&self.each_once(&asked), CONNECTIONS).await?;
        self.all_once(&mut ours, &asked).await?;
        let mut bare = Lines::open(&self.bare(), CONNECTIONS).await?;
        let forget = request("GET", "/forget", &[], b"");
        let (mut own, mut beside) = (Vec::new(), Vec::new());
        for turn in 0..=self.rounds * 4 {
            ensure!(
                ask(&self.facts.bare, &forget).await? == true,
                "memory was not emptied"
            );
            let before = asked.load(Ordering::Relaxed);
            let one = ours.closed(SLICE).await?;
            let keys = asked.load(Ordering::Relaxed) - before;
            // Whoever is asked for twice is in memory the second time.
            ensure!(
                keys <= self.facts.keys.len(),
                "{keys} verifications in a turn: too few keys"
            );
            let two = bare.closed(SLICE).await?;
            if turn > 0 {
                own.push(one);
                beside.push(two);
            }
        }
        let spread = spread(&own);
        let (value, baseline) = (median(&mut own), median(&mut beside));
        tell(json!({
            "case": case, "value": round(value), "unit": "/s", "baseline": round(baseline),
            "baseline_is": "a bare axum route", "ratio": round3(value / baseline), "spread": round2(spread),
            "keys": self.facts.size, "note": "no key is in memory when it is asked for",
        }));
        Ok(())
    }

    /// Asks for each known key once: a first use is written at once, and is not what is measured.
    pub(crate) async fn used_once(&self) -> Result<()> {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut lines = Lines::open(&self.each_once(&asked), CONNECTIONS).await?;
        self.all_once(&mut lines, &asked).await
    }

    async fn all_once(&self, lines: &mut Lines, asked: &AtomicUsize) -> Result<()> {
        while asked.load(Ordering::Relaxed) < self.facts.keys.len() {
            lines.closed(SLICE).await?;
        }
        Ok(())
    }

    /// The known keys one after the other, whichever connection asks.
    fn each_once(&self, asked: &Arc<AtomicUsize>) -> Target {
        let root = format!("Bearer {}", self.facts.root_key);
        let requests: Vec<Vec<u8>> = self
            .facts
            .keys
            .iter()
            .map(|key| {
                let headers = [JSON, ("Authorization", root.as_str())];
                let body = one(key).to_string();
                request("POST", "/api/v1/keys/verify", &headers, body.as_bytes())
            })
            .collect();
        let asked = Arc::clone(asked);
        let next: Next = Arc::new(move |_, _, _| {
            let at = asked.fetch_add(1, Ordering::Relaxed);
            requests[at % requests.len()].clone()
        });
        self.target(next)
    }

    fn target(&self, next: Next) -> Target {
        Target {
            address: self.facts.address.clone(),
            next,
            status: 200,
            says: Says::VALID,
        }
    }
}
