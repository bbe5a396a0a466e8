//! What happened in a sign-in or a refresh: numbers of steps, times, and codes of errors. Codes are texts of this
//! program's own (`&'static str`), so that nothing which came over a wire can be recorded, secret or not.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use keywright_protocol::flows::{FlowEventView, FlowTraceView};

use crate::clock::now_ms;

/// Traces kept of each flow: accounts refresh by themselves all day, and must not push a sign-in out.
const KEPT: usize = 5;
/// A stranger on the loopback port may send answers as fast as they like.
const MOST_MISSED: usize = 20;

/// The last traces, oldest first. Nothing of it reaches a disk.
#[derive(Default)]
pub(crate) struct FlowTraces {
    kept: Mutex<VecDeque<Arc<FlowTrace>>>,
    next: AtomicU32,
}

impl FlowTraces {
    /// A new trace, in the place of the oldest one of its flow where there are enough.
    pub(crate) fn begin(&self, flow: &'static str, provider_name: String) -> Arc<FlowTrace> {
        let trace = Arc::new(FlowTrace {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            flow,
            provider_name,
            started_at: now_ms(),
            started: Instant::now(),
            told: Mutex::default(),
        });
        let mut kept = lock(&self.kept);
        if kept.iter().filter(|other| other.flow == flow).count() >= KEPT
            && let Some(oldest) = kept.iter().position(|other| other.flow == flow)
        {
            let _forgotten = kept.remove(oldest);
        }
        kept.push_back(Arc::clone(&trace));
        trace
    }

    /// Newest first.
    pub(crate) fn views(&self) -> Vec<FlowTraceView> {
        lock(&self.kept)
            .iter()
            .rev()
            .map(|trace| trace.view())
            .collect()
    }
}

/// A trace that is over at the latest when this is dropped, by a panic or by whoever waited no longer.
pub(crate) struct UntilOver(Arc<FlowTrace>);

impl Deref for UntilOver {
    type Target = Arc<FlowTrace>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for UntilOver {
    fn drop(&mut self) {
        self.0.failed(self.0.next(), "interrupted");
    }
}

/// One sign-in or refresh.
pub(crate) struct FlowTrace {
    id: u32,
    flow: &'static str,
    provider_name: String,
    started_at: i64,
    started: Instant,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    events: Vec<Event>,
    missed: usize,
    left_out: u32,
    over: bool,
}

struct Event {
    step: u8,
    after_ms: i64,
    code: Option<&'static str>,
    ended: bool,
}

impl FlowTrace {
    /// Keeps it open for as long as somebody works on it.
    pub(crate) fn until_over(self: Arc<Self>) -> UntilOver {
        UntilOver(self)
    }

    /// A step was done, and with it all before that nobody spoke of. Saying it twice changes nothing.
    pub(crate) fn done(&self, step: u8) {
        self.tell(|told, after_ms| told.done(step, after_ms));
    }

    /// Something was wrong at a step, and the flow goes on.
    pub(crate) fn missed(&self, step: u8, code: &'static str) {
        self.tell(|told, after_ms| {
            if told.missed >= MOST_MISSED {
                told.left_out = told.left_out.saturating_add(1);
                return;
            }
            told.missed += 1;
            told.push(step, after_ms, Some(code), false);
        });
    }

    /// The flow ended at a step; the ones before it were done where nothing else was said of them.
    pub(crate) fn failed(&self, step: u8, code: &'static str) {
        self.tell(|told, after_ms| {
            // What was missed and not done later stays missed: a browser that could not be opened.
            for before in told.reached() + 1..step {
                if !told.was_missed(before) {
                    told.push(before, after_ms, None, false);
                }
            }
            told.push(step, after_ms, Some(code), true);
            told.over = true;
        });
    }

    /// The flow ended with its last step done.
    pub(crate) fn succeeded(&self, last: u8) {
        self.tell(|told, after_ms| {
            told.done(last, after_ms);
            if let Some(event) = told.events.last_mut() {
                event.ended = true;
            }
            told.over = true;
        });
    }

    /// The step after the last one done.
    pub(crate) fn next(&self) -> u8 {
        lock(&self.told).reached() + 1
    }

    fn tell(&self, tell: impl FnOnce(&mut Told, i64)) {
        let after_ms = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let mut told = lock(&self.told);
        // What comes after the end belongs to nobody.
        if !told.over {
            tell(&mut told, after_ms);
        }
    }

    fn view(&self) -> FlowTraceView {
        let told = lock(&self.told);
        let events = told.events.iter().map(|event| FlowEventView {
            step: event.step.into(),
            after_ms: event.after_ms,
            code: event.code.map(str::to_owned),
            ended: event.ended,
        });
        FlowTraceView {
            id: self.id,
            flow: self.flow.to_owned(),
            provider_name: self.provider_name.clone(),
            started_at: self.started_at,
            running: !told.over,
            events: events.collect(),
            left_out: told.left_out,
        }
    }
}

impl Told {
    fn reached(&self) -> u8 {
        let done = self.events.iter().filter(|event| event.code.is_none());
        done.map(|event| event.step).max().unwrap_or(0)
    }

    fn was_missed(&self, step: u8) -> bool {
        let last = self.events.iter().rfind(|event| event.step == step);
        last.is_some_and(|event| event.code.is_some())
    }

    fn done(&mut self, step: u8, after_ms: i64) {
        for step in self.reached() + 1..=step {
            self.push(step, after_ms, None, false);
        }
    }

    fn push(&mut self, step: u8, after_ms: i64, code: Option<&'static str>, ended: bool) {
        self.events.push(Event {
            step,
            after_ms,
            code,
            ended,
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{FlowTraces, KEPT, MOST_MISSED};

    fn told(traces: &FlowTraces) -> Vec<(u32, Option<String>, bool)> {
        let newest = traces.views().remove(0);
        let events = newest.events.into_iter();
        events
            .map(|event| (event.step, event.code, event.ended))
            .collect()
    }

    #[test]
    fn ac_195_steps_are_told_once_and_the_end_is_marked() {
        let traces = FlowTraces::default();
        let trace = traces.begin("authorization-code", "id.example.com".to_owned());
        trace.done(1);
        trace.done(1);
        trace.missed(5, "state_mismatch");
        trace.done(3);
        assert!(traces.views()[0].running);
        trace.done(5);
        trace.failed(6, "invalid_grant");
        // A page that still asks, and a sign-in that is taken down.
        trace.missed(5, "state_mismatch");
        trace.failed(8, "network_error");
        let wrong = |code: &str| Some(code.to_owned());
        let expected = [
            (1, None, false),
            (5, wrong("state_mismatch"), false),
            (2, None, false),
            (3, None, false),
            (4, None, false),
            (5, None, false),
            (6, wrong("invalid_grant"), true),
        ];
        assert_eq!(told(&traces), expected);
        assert!(!traces.views()[0].running);
    }

    #[test]
    fn ac_195_a_step_that_was_missed_is_not_done_because_the_flow_ended_later() {
        let traces = FlowTraces::default();
        let trace = traces.begin("authorization-code", String::new());
        trace.done(2);
        trace.missed(3, "browser_open_failed");
        trace.failed(4, "login_cancelled");
        let last: Vec<_> = told(&traces).into_iter().skip(2).collect();
        let wrong = |code: &str| Some(code.to_owned());
        assert_eq!(
            last,
            [
                (3, wrong("browser_open_failed"), false),
                (4, wrong("login_cancelled"), true)
            ]
        );
    }

    #[test]
    fn ac_195_a_flow_that_is_dropped_is_over() {
        let traces = FlowTraces::default();
        drop(traces.begin("refresh-token", String::new()).until_over());
        let view = traces.views().remove(0);
        assert!(!view.running);
        assert_eq!(told(&traces), [(1, Some("interrupted".to_owned()), true)]);
        let whole = traces.begin("refresh-token", String::new()).until_over();
        whole.succeeded(4);
        drop(whole);
        assert_eq!(told(&traces).len(), 4);
    }

    #[test]
    fn ac_195_a_flood_of_answers_takes_no_room_and_does_not_hide_the_end() {
        let traces = FlowTraces::default();
        let trace = traces.begin("authorization-code", String::new());
        for _ in 0..1000 {
            trace.missed(5, "state_mismatch");
        }
        trace.succeeded(8);
        let view = traces.views().remove(0);
        assert_eq!(view.events.len(), MOST_MISSED + 8);
        assert_eq!(view.left_out, 1000 - MOST_MISSED as u32);
        assert!(
            view.events
                .last()
                .is_some_and(|last| last.ended && last.step == 8)
        );
    }

    #[test]
    fn ac_195_traces_are_bounded_for_each_flow() {
        let traces = FlowTraces::default();
        traces.begin("authorization-code", "first".to_owned());
        for _ in 0..100 {
            traces.begin("refresh-token", String::new());
        }
        let views = traces.views();
        assert_eq!(views.len(), KEPT + 1);
        assert_eq!(
            views[KEPT].provider_name, "first",
            "the sign-in is still there"
        );
        let ids: Vec<u32> = views.iter().map(|view| view.id).collect();
        assert!(ids.is_sorted_by(|a, b| a > b), "newest first: {ids:?}");
    }
}
