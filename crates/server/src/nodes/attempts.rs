//! Attempts that are counted before they are made, where most are right: sign-ins from one address. Whoever
//! would be one too many only because others are at it just now waits for them, a few seconds and among a
//! bounded number. What is made and wrong is as bounded as without that: an attempt that waits is not made.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::guesses::Guesses;
use crate::http::failures::{self, Waits};
use crate::server::App;

/// Nobody waits longer for others' attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// So many of one source and target are made at once: it takes no more than its share of those who check
/// passwords, and others find room there.
const MOST_AT_ONCE: u32 = 16;
/// So many wait for one source and target, and for all.
const MOST_OF_ONE: usize = 200;
const MOST: usize = 1_000;
/// What becomes of attempts at other nodes is not told: it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Whoever waited in vain tries again after that.
const COME_AGAIN_MS: i64 = 2_000;

/// Who is at it, and who waits for them.
#[derive(Debug)]
pub(super) struct Turns {
    state: Mutex<State>,
    ended: Notify,
    longest: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            ended: Notify::new(),
            longest: LONGEST_WAIT,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// By source and target, those alone where somebody is.
    names: HashMap<String, Crowd>,
    waiting: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Crowd {
    under_way: u32,
    waiting: usize,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are at it: they are counted as failures, and need not be any.
    pub(super) fn under_way(&self, name: &str) -> u32 {
        self.lock().of(name).under_way
    }

    /// A place among those who wait, if there is one.
    fn queue<'a>(&'a self, name: &'a str) -> Option<Waiting<'a>> {
        let mut state = self.lock();
        if state.waiting >= MOST || state.of(name).waiting >= MOST_OF_ONE {
            return None;
        }
        state.waiting += 1;
        state.change(name, |crowd| crowd.waiting += 1);
        Some(Waiting { turns: self, name })
    }
}

impl State {
    fn of(&self, name: &str) -> Crowd {
        self.names.get(name).copied().unwrap_or_default()
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Crowd)) {
        let mut crowd = self.of(name);
        change(&mut crowd);
        if crowd.under_way == 0 && crowd.waiting == 0 {
            self.names.remove(name);
        } else {
            self.names.insert(name.to_owned(), crowd);
        }
    }
}

struct Waiting<'a> {
    turns: &'a Turns,
    name: &'a str,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        state.waiting = state.waiting.saturating_sub(1);
        state.change(self.name, |crowd| {
            crowd.waiting = crowd.waiting.saturating_sub(1);
        });
    }
}

/// An attempt that is being made. It is counted as a failure; dropped, it stays one.
pub(crate) struct UnderWay<'a> {
    guesses: &'a Guesses,
    app: &'a App,
    source: IpAddr,
    target: String,
    name: String,
    counted_at: i64,
    tells_others: bool,
}

impl UnderWay<'_> {
    /// It was no guess.
    pub(crate) async fn take_back(self) {
        let (source, target) = (self.source, self.target.as_str());
        self.guesses
            .take_back(self.app, source, target, self.counted_at)
            .await;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let turns = &self.guesses.turns;
        turns.lock().change(&self.name, |crowd| {
            crowd.under_way = crowd.under_way.saturating_sub(1);
        });
        if self.tells_others {
            turns.ended.notify_waiters();
        }
    }
}

/// Why an attempt is not made.
enum Full {
    /// So many failed already.
    Failed(Waits),
    /// Others are at it, and may be right.
    UnderWay,
}

impl Guesses {
    /// Counts an attempt before it is made, as soon as there is room for it: many at once are no more than one
    /// after the other.
    ///
    /// # Errors
    /// [`Waits`] after too many failures; where others are at it for too long, or too many wait for them.
    pub(crate) async fn attempt<'a>(
        &'a self,
        app: &'a App,
        source: IpAddr,
        target: &str,
    ) -> Result<UnderWay<'a>, Waits> {
        let name = failures::name(source, target);
        let until = Instant::now() + self.turns.longest;
        let in_vain = Waits::for_ms(COME_AGAIN_MS);
        let mut place = None;
        loop {
            // From here on: what ends while it is looked at is not missed.
            let ended = self.turns.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            match self.begin(app, source, target, &name).await {
                Ok(attempt) => return Ok(attempt),
                Err(Full::Failed(waits)) => return Err(waits),
                Err(Full::UnderWay) => {}
            }
            if place.is_none() {
                place = Some(self.turns.queue(&name).ok_or(in_vain)?);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(in_vain);
            }
            timeout(left.min(LOOK_AGAIN), ended).await.ok();
        }
    }

    async fn begin<'a>(
        &'a self,
        app: &'a App,
        source: IpAddr,
        target: &str,
        name: &str,
    ) -> Result<UnderWay<'a>, Full> {
        let now = app.now();
        {
            // Both under one lock, so that what is under way is always among what is counted.
            let mut state = self.turns.lock();
            let under_way = state.of(name).under_way;
            let failed = self.own.check_without(name, under_way, now);
            failed.map_err(Full::Failed)?;
            if under_way >= MOST_AT_ONCE || self.own.count_within(source, target, now).is_err() {
                return Err(Full::UnderWay);
            }
            state.change(name, |crowd| crowd.under_way += 1);
        }
        let mut attempt = UnderWay {
            guesses: self,
            app,
            source,
            target: target.to_owned(),
            name: name.to_owned(),
            counted_at: now,
            tells_others: true,
        };
        let Err(waits) = self.count_at_all(app, source, target).await else {
            return Ok(attempt);
        };
        // Nothing was tried, and there is no more room than before.
        attempt.tells_others = false;
        attempt.take_back().await;
        Err(if self.turns.under_way(name) > 0 {
            Full::UnderWay
        } else {
            Full::Failed(waits)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinHandle;

    use super::*;
    use crate::test_support::TestServer;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    struct Office {
        server: TestServer,
        guesses: Arc<Guesses>,
    }

    impl Office {
        async fn of(allowed: u32, longest: Duration) -> Self {
            let mut guesses = Guesses::new("test", allowed, 60_000);
            guesses.turns.longest = longest;
            Self {
                server: TestServer::start().await,
                guesses: Arc::new(guesses),
            }
        }

        async fn begin(&self) -> Result<UnderWay<'_>, Waits> {
            let app = self.server.server.app();
            self.guesses.attempt(app, SOURCE, "").await
        }

        /// Somebody who waits for a turn, and ends it as a failure.
        async fn waits(&self) -> JoinHandle<Result<(), Waits>> {
            let (guesses, app) = (Arc::clone(&self.guesses), self.server.server.app().clone());
            let before = self.waiting();
            let task =
                tokio::spawn(async move { guesses.attempt(&app, SOURCE, "").await.map(drop) });
            while self.waiting() == before && !task.is_finished() {
                tokio::task::yield_now().await;
            }
            task
        }

        fn waiting(&self) -> usize {
            self.guesses.turns.lock().waiting
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn s3_47_who_is_one_too_many_waits_until_others_were_right_and_not_longer_than_they_are_wrong()
     {
        let office = Office::of(2, LONG).await;
        let (one, other) = (office.begin().await.unwrap(), office.begin().await.unwrap());
        let third = office.waits().await;
        assert_eq!(office.waiting(), 1);
        // Whoever asks beside them is not refused for what is under way.
        let app = office.server.server.app();
        assert!(office.guesses.check(app, SOURCE, "").await.is_ok());
        // Wrong: there is no more room than before.
        drop(one);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!third.is_finished());
        // Right: the third takes its place, and is wrong.
        other.take_back().await;
        assert_eq!(third.await.unwrap(), Ok(()));
        assert_eq!(office.waiting(), 0);
        // Two were wrong: nobody waits for anything now, and it is long.
        let waits = office.begin().await.err().unwrap();
        assert!(waits.seconds > 50, "{waits:?}");
    }

    #[tokio::test]
    async fn s3_47_those_who_wait_are_told_as_soon_as_all_were_wrong() {
        let office = Office::of(2, LONG).await;
        let (one, other) = (office.begin().await.unwrap(), office.begin().await.unwrap());
        let waiting = [office.waits().await, office.waits().await];
        drop((one, other));
        for third in waiting {
            let refused = third.await.unwrap().unwrap_err();
            assert!(refused.seconds > 50, "{refused:?}");
        }
        let state = office.guesses.turns.lock();
        assert!(state.waiting == 0 && state.names.is_empty(), "{state:?}");
    }

    #[tokio::test]
    async fn s3_47_who_waits_too_long_or_among_too_many_comes_again_soon() {
        let office = Office::of(1, Duration::from_millis(300)).await;
        let one = office.begin().await.unwrap();
        let in_vain = office.begin().await.err();
        assert_eq!(in_vain, Some(Waits { seconds: 2 }));
        let name = failures::name(SOURCE, "");
        let turns = &office.guesses.turns;
        let all: Vec<_> = (0..MOST_OF_ONE)
            .map(|_| turns.queue(&name).unwrap())
            .collect();
        let began = Instant::now();
        let in_vain = office.begin().await.err();
        assert_eq!(in_vain, Some(Waits { seconds: 2 }));
        assert!(began.elapsed() < Duration::from_millis(200), "at once");
        // Others have room, but not without end.
        let others: Vec<String> = (0..5).map(|n| n.to_string()).collect();
        let mut places = Vec::new();
        for other in &others {
            while let Some(place) = turns.queue(other) {
                places.push(place);
            }
        }
        assert_eq!(places.len(), MOST - MOST_OF_ONE);
        drop(all);
        one.take_back().await;
    }

    #[tokio::test]
    async fn one_source_has_no_more_than_its_share_at_once() {
        let office = Office::of(50, LONG).await;
        let mut all = Vec::new();
        for _ in 0..MOST_AT_ONCE {
            all.push(office.begin().await.unwrap());
        }
        let next = office.waits().await;
        assert_eq!(office.waiting(), 1);
        all.pop().unwrap().take_back().await;
        assert_eq!(next.await.unwrap(), Ok(()));
    }
}
