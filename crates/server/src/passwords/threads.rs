//! Threads that hash, beside those of the runtime. A hash takes a core for 15 ms: on the same core a verification
//! that comes meanwhile would wait until the system gives it the next turn, some milliseconds. So a hash runs behind
//! everything else first (on Linux: `SCHED_IDLE`), and any other thread takes the core from it at once. Where nothing is left
//! for it, it runs once more as everybody does: sign-ins become slower then, and never stand still.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use argon2::Block;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// What a thread hashes in. It stays with the thread: taken anew for each hash, it would be given back to the system
/// each time, by whichever thread asks for memory next.
pub(super) type Memory = Vec<Block>;

/// So long a thread that has nothing to do stays, with its memory.
const REST: Duration = Duration::from_secs(10);
/// So long a hash may take behind everything else.
const PATIENCE: Duration = Duration::from_millis(50);
/// So long none is tried there after one that took longer.
const CROWDED: Duration = Duration::from_secs(1);

/// What returns is let go once the thread is free again.
type Job = Box<dyn FnOnce(&mut Memory) -> Option<OwnedSemaphorePermit> + Send>;
/// Held by who runs, and taken away from who runs behind if that takes too long.
type Place = Arc<Mutex<Option<OwnedSemaphorePermit>>>;

/// Runs hashes.
#[derive(Debug)]
pub(super) struct Hashing {
    behind: Arc<Threads>,
    beside: Arc<Threads>,
    /// [`PATIENCE`], but in tests.
    patience: Duration,
    crowded_until: Mutex<Option<Instant>>,
    way: Arc<Way>,
}

/// How a thread goes behind everything else, and whether the system forbids it. A sandbox that does forbids it
/// always: then a second thread would compete with the first, at the same priority, over the same hash.
#[derive(Debug)]
struct Way {
    go: fn() -> Result<(), String>,
    is_barred: AtomicBool,
}

impl Way {
    fn new(go: fn() -> Result<(), String>) -> Arc<Self> {
        Arc::new(Self {
            go,
            is_barred: AtomicBool::new(false),
        })
    }

    fn is_barred(&self) -> bool {
        self.is_barred.load(Ordering::Relaxed)
    }

    fn take(&self) {
        if let Err(why) = (self.go)()
            && !self.is_barred.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                why,
                "passwords are hashed beside everything else, not behind it: verifications wait longer during sign-ins. \
                 The sandbox must allow sched_setscheduler and setpriority"
            );
        }
    }
}

impl Hashing {
    /// For as many hashes at once as there are places.
    pub(super) fn new(places: usize) -> Self {
        Self {
            behind: Threads::new(places),
            beside: Threads::new(places),
            patience: PATIENCE,
            crowded_until: Mutex::default(),
            way: Way::new(go_behind),
        }
    }

    /// Does some work, which must be the same if it is done twice; none if it panicked or no thread could be made.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        permit: OwnedSemaphorePermit,
        work: impl Fn(&mut Memory) -> T + Send + Sync + 'static,
    ) -> Option<T> {
        let work = Arc::new(work);
        let place: Place = Arc::new(Mutex::new(Some(permit)));
        // Who hangs up while a hash waits behind everything else leaves the place to others.
        let mut leaving = Leaving(Some(Arc::clone(&place)));
        let (sender, mut first) = oneshot::channel();
        let is_behind = !self.way.is_barred() && !self.is_crowded() && {
            let way = Some(Arc::clone(&self.way));
            self.behind
                .give(job(way, &work, sender, Arc::clone(&place)))
        };
        if is_behind {
            if let Ok(done) = tokio::time::timeout(self.patience, &mut first).await {
                leaving.0 = None;
                return done.ok();
            }
            *lock(&self.crowded_until) = Some(Instant::now() + CROWDED);
        }
        leaving.0 = None;
        let Some(permit) = lock(&place).take() else {
            // It has just ended.
            return first.await.ok();
        };
        let (sender, second) = oneshot::channel();
        let place = Arc::new(Mutex::new(Some(permit)));
        if !self.beside.give(job(None, &work, sender, place)) && !is_behind {
            return None;
        }
        tokio::select! {
            Ok(done) = first, if is_behind => Some(done),
            Ok(done) = second => Some(done),
            else => None,
        }
    }

    fn is_crowded(&self) -> bool {
        lock(&self.crowded_until).is_some_and(|until| Instant::now() < until)
    }
}

/// What a thread is given: behind everything else where a way is named. Nothing is done for whoever does not wait any more.
fn job<T: Send + 'static>(
    way: Option<Arc<Way>>,
    work: &Arc<impl Fn(&mut Memory) -> T + Send + Sync + 'static>,
    sender: oneshot::Sender<T>,
    place: Place,
) -> Job {
    let work = Arc::clone(work);
    Box::new(move |memory| {
        if !sender.is_closed()
            && let Some(done) = compute(way.as_deref(), memory, &*work)
        {
            // Nobody waits: nothing is lost.
            let _ = sender.send(done);
        }
        lock(&place).take()
    })
}

/// The work alone, and behind everything else if a way is named: on a thread that lives for one hash, because
/// what gets no turn must hold no lock that others wait for, and no thread may come forward again by itself.
/// None if it panicked.
fn compute<T: Send>(
    way: Option<&Way>,
    memory: &mut Memory,
    work: &(impl Fn(&mut Memory) -> T + Sync),
) -> Option<T> {
    let Some(way) = way else {
        return panic::catch_unwind(AssertUnwindSafe(|| work(memory))).ok();
    };
    thread::scope(|scope| {
        let hashing = thread::Builder::new().name("hashing".into());
        let hashing = hashing.spawn_scoped(scope, || {
            way.take();
            work(memory)
        });
        hashing.ok()?.join().ok()
    })
}

struct Leaving(Option<Place>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            drop(lock(&place).take());
        }
    }
}

/// Threads, made when needed. They keep memory and places, and answer.
#[derive(Debug)]
struct Threads {
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    alive: usize,
    made: u64,
    resting: Vec<(u64, mpsc::Sender<Job>)>,
}

impl Threads {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            state: Mutex::default(),
        })
    }

    /// False if all are at work, or no more can be made.
    fn give(self: &Arc<Self>, mut job: Job) -> bool {
        let mut state = lock(&self.state);
        // The one that worked last: its memory is warm.
        while let Some((_, thread)) = state.resting.pop() {
            match thread.send(job) {
                Ok(()) => return true,
                Err(mpsc::SendError(back)) => job = back,
            }
        }
        if state.alive >= self.most {
            return false;
        }
        let (sender, jobs) = mpsc::channel();
        if sender.send(job).is_err() {
            return false;
        }
        state.made += 1;
        let (threads, number) = (Arc::clone(self), state.made);
        let made = thread::Builder::new()
            .name("hashes".into())
            .spawn(move || threads.work(number, &sender, &jobs));
        if let Err(error) = made {
            tracing::error!(%error, "no thread could be made to hash a password");
            return false;
        }
        state.alive += 1;
        true
    }

    fn work(&self, number: u64, own: &mpsc::Sender<Job>, jobs: &mpsc::Receiver<Job>) {
        let mut memory = Memory::new();
        while let Some(job) = self.next(number, jobs) {
            let permit = job(&mut memory);
            lock(&self.state).resting.push((number, own.clone()));
            // Only now: the next one finds this thread free.
            drop(permit);
        }
    }

    fn next(&self, number: u64, jobs: &mpsc::Receiver<Job>) -> Option<Job> {
        match jobs.recv_timeout(REST) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                let mut state = lock(&self.state);
                let place = state.resting.iter().position(|(one, _)| *one == number);
                match place {
                    Some(place) => {
                        state.resting.swap_remove(place);
                        // Together: whoever finds nobody resting may make a new one.
                        state.alive -= 1;
                        None
                    }
                    // Somebody has just taken it: the work is on its way.
                    None => {
                        drop(state);
                        jobs.recv().ok()
                    }
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(target_os = "linux")]
fn go_behind() -> Result<(), String> {
    use thread_priority::unix::{
        NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
        thread_native_id,
    };
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    let priority = thread_priority::ThreadPriority::Min;
    // Any thread may, unless a sandbox forbids it.
    set_thread_priority_and_policy(thread_native_id(), priority, policy)
        .map_err(|error| error.to_string())
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail on Linux")]
fn go_behind() -> Result<(), String> {
    Ok(()) // Other systems have no such thing that every process may use.
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Semaphore;

    use super::*;

    async fn permit(places: &Arc<Semaphore>) -> OwnedSemaphorePermit {
        Arc::clone(places).acquire_owned().await.unwrap()
    }

    fn policy() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split(' ').collect();
        fields[39].parse().unwrap()
    }

    /// On a busy machine what runs behind everything else may wait for seconds.
    fn patient() -> Hashing {
        Hashing {
            patience: Duration::from_secs(60),
            ..Hashing::new(1)
        }
    }

    #[tokio::test]
    #[cfg(target_os = "linux")]
    async fn a_hash_runs_behind_everything_else_and_one_that_gets_no_turn_runs_beside() {
        const SCHED_IDLE: i32 = 5;
        let (mut hashing, places) = (patient(), Arc::new(Semaphore::new(1)));
        let found = hashing.run(permit(&places).await, |_| policy()).await;
        assert_eq!(found, Some(SCHED_IDLE));
        // Its thread is free again, and takes the next; what it lends its memory to is another one each time.
        let who = |_: &mut Memory| (policy(), thread::current().id());
        let one = hashing.run(permit(&places).await, who).await.unwrap();
        let two = hashing.run(permit(&places).await, who).await.unwrap();
        assert_eq!((one.0, two.0), (SCHED_IDLE, SCHED_IDLE));
        assert_ne!(one.1, two.1);
        assert_eq!(lock(&hashing.behind.state).made, 1);

        // The first one stands still, as if nothing were left for it.
        let (go, wait) = mpsc::channel::<()>();
        let (wait, stands) = (Mutex::new(wait), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&stands);
        let work = move |_: &mut Memory| {
            let own = policy();
            if own == SCHED_IDLE {
                counter.fetch_add(1, Ordering::Relaxed);
                let _ = lock(&wait).recv();
            }
            own
        };
        // Long enough that it begins.
        hashing.patience = Duration::from_secs(3);
        let found = hashing.run(permit(&places).await, work).await;
        assert_eq!(found, Some(0));
        assert_eq!(stands.load(Ordering::Relaxed), 1);
        // The place is free though the first still stands, and others do not wait for it.
        let found = hashing.run(permit(&places).await, |_| policy()).await;
        assert_eq!(found, Some(0));
        *lock(&hashing.crowded_until) = None;
        let found = hashing.run(permit(&places).await, |_| policy()).await;
        assert_eq!(found, Some(0));
        assert_eq!(lock(&hashing.behind.state).made, 1);
        go.send(()).unwrap();
        for _ in 0..4_000 {
            if !lock(&hashing.behind.state).resting.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        hashing.patience = Duration::from_secs(60);
        *lock(&hashing.crowded_until) = None;
        let found = hashing.run(permit(&places).await, |_| policy()).await;
        assert_eq!(found, Some(SCHED_IDLE));
    }

    #[tokio::test]
    async fn where_the_system_forbids_it_each_hash_is_computed_once_and_by_no_thread_of_its_own() {
        let (mut hashing, places) = (patient(), Arc::new(Semaphore::new(1)));
        hashing.way = Way::new(|| Err("a sandbox".into()));
        let who = |_: &mut Memory| thread::current().name().map(str::to_owned);
        // The first one finds out.
        for wanted in ["hashing", "hashes", "hashes"] {
            let name = hashing.run(permit(&places).await, who).await.flatten();
            assert_eq!(name.as_deref(), Some(wanted));
        }
        let made = |threads: &Threads| lock(&threads.state).made;
        assert_eq!((made(&hashing.behind), made(&hashing.beside)), (1, 1));
    }

    #[tokio::test]
    async fn who_hangs_up_leaves_the_place_and_work_that_nobody_waits_for_is_not_done() {
        let (hashing, places) = (Arc::new(patient()), Arc::new(Semaphore::new(1)));
        let (go, wait) = mpsc::channel::<()>();
        let (wait, begun) = (Mutex::new(wait), Arc::new(AtomicUsize::new(0)));
        let (one, counter) = (Arc::clone(&hashing), Arc::clone(&begun));
        let own = permit(&places).await;
        let asking = tokio::spawn(async move {
            one.run(own, move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
                let _ = lock(&wait).recv();
            })
            .await
        });
        while begun.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        asking.abort();
        assert!(asking.await.unwrap_err().is_cancelled());
        let own = tokio::time::timeout(Duration::from_secs(5), permit(&places)).await;
        drop(own.unwrap());
        go.send(()).unwrap();
    }

    #[tokio::test]
    async fn a_panic_costs_one_hash_and_no_place() {
        let (hashing, places) = (patient(), Arc::new(Semaphore::new(1)));
        for turn in 0..6 {
            // The other way, from the fourth on.
            if turn == 3 {
                *lock(&hashing.crowded_until) = Some(Instant::now() + Duration::from_secs(60));
            }
            let none: Option<()> = hashing
                .run(permit(&places).await, |_| {
                    std::panic::resume_unwind(Box::new("a test's own"))
                })
                .await;
            assert!(none.is_none());
        }
        let own = tokio::time::timeout(Duration::from_secs(5), permit(&places)).await;
        assert_eq!(hashing.run(own.unwrap(), |_| 7).await, Some(7));
        let made = |threads: &Threads| lock(&threads.state).made;
        assert_eq!((made(&hashing.behind), made(&hashing.beside)), (1, 1));
    }
}
