//! Verifications a second of several nodes beside one alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::nodes::{Nodes, round, stay_on};
use crate::wire;

/// Verifications a second of one of three nodes, and of all three, beside a node that has a database for itself. All of
/// them share one core and are asked from the other, in turns: what is seen is what having neighbours costs, not
/// what more cores would bring.
pub(crate) async fn measure(
    three: &Nodes,
    alone: &Nodes,
    keys: &[String],
    rounds: usize,
) -> Result<()> {
    const LINES: usize = 32;
    const SLICE: Duration = Duration::from_millis(250);
    let refused = Arc::<AtomicU64>::default();
    let size = three.size();
    let mut targets = Vec::new();
    for nodes in [three, alone] {
        nodes.stay_on("0")?;
        targets.push(nodes.targets(keys, &refused));
    }
    stay_on("1", std::process::id())?;
    let (alone, three) = (
        targets.pop().context("none")?,
        targets.pop().context("none")?,
    );
    let mut alone = [wire::Lines::open(&alone[0], LINES).await?];
    let mut one = [wire::Lines::open(&three[0], LINES).await?];
    let mut all = Vec::new();
    for target in &three {
        all.push(wire::Lines::open(target, LINES / three.len() + 1).await?);
    }
    for lines in alone.iter_mut().chain(&mut one).chain(&mut all) {
        lines.closed(Duration::from_secs(1)).await?;
    }
    let mut rates = [const { Vec::new() }; 3];
    for turn in 0..=rounds * 4 {
        let measured = [
            together(&mut alone, SLICE).await?,
            together(&mut one, SLICE).await?,
            together(&mut all, SLICE).await?,
        ];
        for (rates, rate) in rates.iter_mut().zip(measured).filter(|_| turn > 0) {
            rates.push(rate);
        }
    }
    let [alone, one, all] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    let refused = refused.load(Ordering::Relaxed);
    ensure!(refused == 0, "{refused} answers did not say `valid`");
    for (case, value) in [("verify_nodes_one_of_3", one), ("verify_nodes_all_3", all)] {
        let case = format!("{case}{size}");
        let line = json!({
            "bench": "server", "case": case, "value": value.round(), "unit": "/s", "baseline": alone.round(),
            "baseline_is": "one node alone over a PostgreSQL database, on the same core", "ratio": round(value / alone),
            "keys_asked_for": keys.len(),
        });
        println!("{line}");
    }
    Ok(())
}

/// Answers a second of several targets at once.
async fn together(lines: &mut [wire::Lines], slice: Duration) -> Result<f64> {
    let asked = lines.iter_mut().map(|lines| lines.closed(slice));
    let mut sum = 0.0;
    for rate in futures(asked.collect()).await {
        sum += rate?;
    }
    Ok(sum)
}

/// All of them at once, on this task.
async fn futures<T>(list: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut list: Vec<_> = list.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = list.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (one, done) in list.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(value) = one.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().any(Option::is_none) {
            return Poll::Pending;
        }
        Poll::Ready(done.iter_mut().filter_map(Option::take).collect())
    })
    .await
}
