//! Rate limits of keys, and guesses, counted by Redis for all nodes. Of limits: the arithmetic of the domain (GCRA) in one
//! script, which Redis runs as a whole, by Redis's own clock. While Redis does not answer, nobody
//! waits for it: each request is answered as the settings say, and it is looked for in the background.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use keywright_registry::{LimitAnswer, LimitAsk, LimitsAnswer, SharedLimits};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo as _, Script, TlsCertificates};
use tokio::time::error::Elapsed;

use crate::settings::SettingError;

/// A verification waits no longer.
const ANSWER_WITHIN: Duration = Duration::from_millis(50);
/// So many waits in vain one after the other, and nobody waits any more. One alone is a busy machine.
const WAITS: u32 = 5;
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a server that starts waits for Redis; it starts without it after that.
const START_WITHIN: Duration = Duration::from_secs(2);

/// KEYS: a guess. One less of what is there; its end stays the same.
const TAKE_BACK: &str = r"
local count = tonumber(redis.call('GET', KEYS[1]) or '0')
if count > 0 then return redis.call('DECR', KEYS[1]) end
return 0";

/// KEYS: one a limit, with the theoretical arrival time in microseconds. ARGV: the cost, then two for
/// each limit, emission and tolerance in microseconds. All are counted or none. Answers with whether
/// they allow it, which one answers (from 0), what is left of it, the time to wait (-1: waiting does
/// not help) and the time until it is whole again (ms). Numbers stay below 2^53, which Lua's hold.
const GCRA: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local cost = tonumber(ARGV[1])
local function ms(us) return math.ceil(math.max(us, 0) / 1000) end
local refuser, longest, new, least = nil, -1, {}, nil
for i, key in ipairs(KEYS) do
    local emission, tolerance = tonumber(ARGV[2 * i]), tonumber(ARGV[2 * i + 1])
    local tat = tonumber(redis.call('GET', key) or '0')
    tat = math.min(tat, now + tolerance)
    local ahead = math.max(tat - now, 0)
    local needed = emission * cost
    local after = ahead + needed
    if needed > tolerance then
        return {0, i - 1, 0, -1, 0}
    end
    if cost > 0 and after > tolerance then
        local wait = math.max(ms(after - tolerance), 1)
        if wait > longest then
            longest = wait
            refuser = {0, i - 1, math.floor((tolerance - ahead) / emission), wait, ms(ahead)}
        end
    else
        local left = math.floor((tolerance - after) / emission)
        new[i] = {now + after, after}
        if least == nil or left < least[3] then
            least = {1, i - 1, left, 0, ms(after)}
        end
    end
end
if refuser then return refuser end
if cost > 0 then
    for i, key in ipairs(KEYS) do
        redis.call('SET', key, string.format('%.0f', new[i][1]), 'PX', ms(new[i][2]) + 1000)
    end
end
return least
";

/// What the script says.
type Answer = (i64, i64, i64, i64, i64);

/// Where it is.
pub(crate) struct Place<'a> {
    /// `redis://…`, or `rediss://…` for TLS.
    pub(crate) address: &'a str,
    /// PEM of the authorities that vouch for it; none for those of the system.
    pub(crate) authorities: Option<Vec<u8>>,
}

/// What Redis counts with.
pub(crate) struct Redis {
    client: Client,
    script: Script,
    /// Two Keywrights may share a Redis.
    prefix: String,
    /// Whether nothing passes uncounted while it is away.
    refuse: bool,
    connection: RwLock<Option<MultiplexedConnection>>,
    looking: AtomicBool,
    failures: AtomicU64,
    /// Waits in vain since it last answered.
    waits: AtomicU32,
    weak: std::sync::Weak<Redis>,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password.
        f.debug_struct("Redis")
            .field("up", &self.is_up())
            .finish_non_exhaustive()
    }
}

impl Redis {
    /// Reads the address and looks for a Redis there, for a moment.
    ///
    /// # Errors
    /// [`SettingError`] for an address that is none, or authorities that are none.
    pub(crate) async fn connect(
        place: Place<'_>,
        registry_id: &str,
        refuse: bool,
    ) -> Result<Arc<Self>, SettingError> {
        // The error may quote the address.
        let no_address = |_| SettingError::new("redis_url", "it is no address of a Redis");
        let info = place.address.into_connection_info().map_err(no_address)?;
        let client = match place.authorities {
            None => Client::open(info).map_err(no_address)?,
            Some(pem) => {
                let trusted = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(pem),
                };
                let no_pem = |_| SettingError::new("redis_ca", "it holds no certificates in PEM");
                Client::build_with_tls(info, trusted).map_err(no_pem)?
            }
        };
        let redis = Arc::new_cyclic(|weak| Self {
            client,
            script: Script::new(GCRA),
            prefix: format!("keywright:{registry_id}"),
            refuse,
            connection: RwLock::default(),
            looking: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            waits: AtomicU32::new(0),
            weak: weak.clone(),
        });
        if !matches!(
            tokio::time::timeout(START_WITHIN, redis.open()).await,
            Ok(Ok(()))
        ) {
            tracing::warn!("Redis does not answer: the server starts without it");
            redis.look_for_it();
        }
        Ok(redis)
    }

    /// Whether it answered when it was last asked.
    pub(crate) fn is_up(&self) -> bool {
        let connection = self.connection.read();
        connection.unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// How often it failed to answer.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    async fn open(&self) -> redis::RedisResult<()> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_WITHIN))
            .set_response_timeout(Some(CONNECT_WITHIN));
        let mut connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        // It answers, and has the script at hand.
        self.script
            .prepare_invoke()
            .load_async(&mut connection)
            .await?;
        *self
            .connection
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(connection);
        self.waits.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// From now on nobody asks it, until it was found again.
    fn lost(&self, why: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let was_up = self
            .connection
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .is_some();
        if was_up {
            tracing::warn!(
                why,
                refuse = self.refuse,
                "limits are not counted together now"
            );
        }
        self.look_for_it();
    }

    fn look_for_it(&self) {
        if self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        let weak = self.weak.clone();
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                tokio::time::sleep(pause).await;
                let Some(redis) = weak.upgrade() else { return };
                if let Ok(Ok(())) = tokio::time::timeout(CONNECT_WITHIN, redis.open()).await {
                    redis.looking.store(false, Ordering::Release);
                    tracing::info!("limits are counted together again");
                    return;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        });
    }

    fn away(&self) -> LimitsAnswer {
        if self.refuse {
            LimitsAnswer::Unavailable
        } else {
            LimitsAnswer::PerNode
        }
    }

    /// The connection; none while nobody asks it.
    fn connected(&self) -> Option<MultiplexedConnection> {
        let connection = self.connection.read();
        connection.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What became of a question; none for no answer.
    fn settle<T>(&self, answer: Result<redis::RedisResult<T>, Elapsed>) -> Option<T> {
        match answer {
            Ok(Ok(answer)) => {
                self.waits.store(0, Ordering::Relaxed);
                Some(answer)
            }
            Ok(Err(error)) => {
                // The kind only: what it says may quote its configuration.
                self.lost(&format!("{:?}", error.kind()));
                None
            }
            Err(_) => {
                if self.waits.fetch_add(1, Ordering::Relaxed) + 1 >= WAITS {
                    self.lost("it takes too long");
                } else {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                }
                None
            }
        }
    }

    /// How many guesses all nodes counted under a name, and for how long they count (ms); none while
    /// Redis does not answer: then each node goes by what it knows, whatever the settings say of limits.
    pub(crate) async fn guesses(&self, name: &str) -> Option<(u64, i64)> {
        let mut connection = self.connected()?;
        let key = self.guess(name);
        let mut pipe = redis::pipe();
        pipe.get(&key).pttl(&key);
        let asked = pipe.query_async::<(Option<u64>, i64)>(&mut connection);
        let (count, left) = self.settle(tokio::time::timeout(ANSWER_WITHIN, asked).await)?;
        Some((count.unwrap_or(0), left))
    }

    /// Counts one more guess under a name, which is forgotten `window_ms` after the first. Returns how many
    /// there are now, and for how long they count (ms); none while Redis does not answer.
    pub(crate) async fn count_guess(&self, name: &str, window_ms: i64) -> Option<(u64, i64)> {
        let mut connection = self.connected()?;
        let key = self.guess(name);
        let mut pipe = redis::pipe();
        // One transaction: a count without an end would never be forgotten.
        pipe.atomic();
        pipe.cmd("SET")
            .arg(&key)
            .arg(0)
            .arg("PX")
            .arg(window_ms)
            .arg("NX")
            .ignore();
        pipe.incr(&key, 1).pttl(&key);
        let asked = pipe.query_async::<(u64, i64)>(&mut connection);
        self.settle(tokio::time::timeout(ANSWER_WITHIN, asked).await)
    }

    /// Takes one guess under a name back, if Redis answers and still counts it. What is not there stays so:
    /// a count that began here would have no end.
    pub(crate) async fn take_guess_back(&self, name: &str) {
        let Some(mut connection) = self.connected() else {
            return;
        };
        let mut back = redis::cmd("EVAL");
        back.arg(TAKE_BACK).arg(1).arg(self.guess(name));
        let asked = back.query_async::<i64>(&mut connection);
        self.settle(tokio::time::timeout(ANSWER_WITHIN, asked).await);
    }

    /// Forgets the guesses under a name, if Redis answers.
    pub(crate) async fn forget_guesses(&self, name: &str) {
        let Some(mut connection) = self.connected() else {
            return;
        };
        let mut forget = redis::cmd("DEL");
        forget.arg(self.guess(name));
        let asked = forget.query_async::<i64>(&mut connection);
        self.settle(tokio::time::timeout(ANSWER_WITHIN, asked).await);
    }

    fn guess(&self, name: &str) -> String {
        format!("{}:guesses:{name}", self.prefix)
    }

    async fn count(&self, ask: &LimitAsk) -> LimitsAnswer {
        let Some(mut connection) = self.connected() else {
            return self.away();
        };
        let mut call = self.script.prepare_invoke();
        for word in &ask.words {
            // What is in braces decides where a cluster keeps it: all words of one ask together.
            call.key(format!("{}:{{{}}}:{}", self.prefix, ask.group, word.name));
        }
        call.arg(ask.cost);
        for word in &ask.words {
            call.arg(word.gcra.emission_us).arg(word.gcra.tolerance_us);
        }
        let asked = call.invoke_async::<Answer>(&mut connection);
        let answer = self.settle(tokio::time::timeout(ANSWER_WITHIN, asked).await);
        let answer = answer.and_then(read);
        answer.map_or_else(|| self.away(), LimitsAnswer::Counted)
    }
}

fn read((allowed, limit, remaining, wait_ms, reset_ms): Answer) -> Option<LimitAnswer> {
    let remaining = u32::try_from(remaining).ok()?;
    let reset_ms = u64::try_from(reset_ms).ok()?;
    Some(match allowed {
        1 => LimitAnswer::Allowed {
            limit: usize::try_from(limit).ok()?,
            remaining: Some(remaining),
            reset_ms,
        },
        _ => LimitAnswer::Refused {
            limit: usize::try_from(limit).ok()?,
            remaining,
            retry_after_ms: u64::try_from(wait_ms).ok(),
            reset_ms,
        },
    })
}

impl SharedLimits for Redis {
    fn take<'a>(
        &'a self,
        ask: &'a LimitAsk,
    ) -> Pin<Box<dyn Future<Output = LimitsAnswer> + Send + 'a>> {
        Box::pin(self.count(ask))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Place<'_> {
        Place {
            address,
            authorities: None,
        }
    }

    fn ask() -> LimitAsk {
        LimitAsk {
            group: "o".into(),
            words: Vec::new(),
            cost: 1,
        }
    }

    #[test]
    fn an_answer_is_read_and_a_strange_one_is_none() {
        assert_eq!(
            read((1, 0, 4, 0, 17)),
            Some(LimitAnswer::Allowed {
                limit: 0,
                remaining: Some(4),
                reset_ms: 17
            })
        );
        let never = read((0, 2, 0, -1, 0));
        assert!(matches!(
            never,
            Some(LimitAnswer::Refused {
                limit: 2,
                retry_after_ms: None,
                ..
            })
        ));
        assert_eq!(read((1, 0, -1, 0, 0)), None);
    }

    #[tokio::test]
    async fn without_redis_nobody_waits_and_the_setting_decides() {
        // Nobody listens there: the port was ours a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        for (refuse, answer) in [
            (true, LimitsAnswer::Unavailable),
            (false, LimitsAnswer::PerNode),
        ] {
            let address = format!("redis://:secret@127.0.0.1:{port}");
            let redis = Redis::connect(at(&address), "r", refuse).await.unwrap();
            let begun = std::time::Instant::now();
            assert_eq!(redis.take(&ask()).await, answer);
            assert!(begun.elapsed() < ANSWER_WITHIN);
            assert!(!redis.is_up());
            assert!(!format!("{redis:?}").contains("secret"));
        }
    }

    #[tokio::test]
    async fn a_redis_that_hangs_is_waited_for_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("redis://{}", listener.local_addr().unwrap());
        // It takes connections and says nothing.
        tokio::spawn(async move {
            let mut all = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                all.push(stream);
            }
        });
        let redis = Redis::connect(at(&address), "r", false).await.unwrap();
        for _ in 0..3 {
            let begun = std::time::Instant::now();
            assert_eq!(redis.take(&ask()).await, LimitsAnswer::PerNode);
            assert!(begun.elapsed() < ANSWER_WITHIN);
        }
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_without_quoting_it() {
        let error = Redis::connect(at("http://:secret@x"), "r", true)
            .await
            .unwrap_err();
        assert_eq!(error.setting, "redis_url");
        assert!(!error.to_string().contains("secret"));
    }
}
