//! Rate limits that nodes count together. Memory counts for one process; whoever serves from several
//! hands over something that counts for all. The registry has no network of its own: what that is,
//! it does not know.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use keywright_domain::api_keys::Gcra;
use keywright_index::LimitAnswer;

use crate::LocalRegistry;

/// What a verification asks for: against all words or against none.
#[derive(Clone, Debug)]
pub struct LimitAsk {
    /// What all its words have in common: the owner's id, or the key's where it has none.
    pub group: String,
    /// The limits, in the key's order.
    pub words: Vec<LimitWord>,
    /// What it counts for.
    pub cost: u32,
}

/// One limit and whose it is.
#[derive(Clone, Debug)]
pub struct LimitWord {
    /// Unique within the group: the key's id and the limit's name, or for a limit that all of an
    /// owner's keys share its name and terms, since what is counted in one word has one arithmetic.
    pub name: String,
    /// Its arithmetic.
    pub gcra: Gcra,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitsAnswer {
    /// Counted for all nodes.
    Counted(LimitAnswer),
    /// It cannot be asked now, and this node's own count is to be used.
    PerNode,
    /// It cannot be asked now, and nothing is to pass uncounted.
    Unavailable,
}

/// Counts for all nodes. Must answer within a short time of its own.
pub trait SharedLimits: Debug + Send + Sync {
    /// Counts a request.
    fn take<'a>(
        &'a self,
        ask: &'a LimitAsk,
    ) -> Pin<Box<dyn Future<Output = LimitsAnswer> + Send + 'a>>;
}

/// What was handed over.
#[derive(Debug, Default)]
pub(crate) struct Limits(OnceLock<Arc<dyn SharedLimits>>);

impl Limits {
    pub(crate) fn get(&self) -> Option<&Arc<dyn SharedLimits>> {
        self.0.get()
    }
}

impl LocalRegistry {
    /// Has rate limits counted elsewhere, for all nodes together. Once, before the first
    /// verification.
    pub fn share_limits(&self, limits: Arc<dyn SharedLimits>) {
        let _ = self.shared.limits.0.set(limits);
    }
}
