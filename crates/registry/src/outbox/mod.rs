//! What is told to others. Messages are rows: they are made of what was committed before (the audit
//! trail, alerts, notices), in the transaction that writes down that they were made, so that nothing is
//! lost in a crash and nothing is told twice. One node sends each; what fails is tried again.

mod digests;
mod dropped;
mod feed;
mod messages;
mod moments;
mod webhooks;

pub use digests::{Digest, Grown};
pub use dropped::Dropped;
pub use feed::{AuditFeed, UntoldAlert, UntoldAudit};
pub use messages::{
    ATTEMPT, Attempt, Claimed, Message, MessageFilter, MessageState, Outcome, Resent, Waiting,
};
pub(crate) use moments::Believed;
pub use webhooks::{NewWebhook, Webhook, WebhookChange, WebhookSecrets};

/// How a message leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// To a webhook.
    Webhook,
    /// By mail.
    Mail,
    /// To a client, that a session ended (OpenID Connect Back-Channel Logout).
    Logout,
    /// To ourselves: somebody reported a key that they found. It is removed when it was seen to.
    FoundKey,
}

impl Channel {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Webhook, Self::Mail, Self::Logout, Self::FoundKey];

    /// Stable text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Mail => "mail",
            Self::Logout => "logout",
            Self::FoundKey => "found_key",
        }
    }

    /// Reads the stable text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// A message that is to be sent.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// One name for one event: a target is told it once.
    pub event_id: String,
    /// What happened.
    pub event_type: String,
    /// How it leaves.
    pub channel: Channel,
    /// A webhook's id, an address, a client's id.
    pub target: String,
    /// What is sent, or what it is made of; sealed where it is secret.
    pub body: Vec<u8>,
}

/// What messages were made of: written down with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MadeOf {
    /// The audit trail from one event to another.
    Audit {
        /// Where the feed stood.
        from: i64,
        /// Where it stands now.
        to: i64,
    },
    /// An alert, as it was when it had happened so often.
    Alert {
        /// The alert.
        id: String,
        /// How often it had happened.
        count: i64,
    },
    /// Notices that were taken together.
    Notices {
        /// Those that somebody is told of: id, and how it is sent.
        told: Vec<(String, String)>,
        /// Those that nobody can be told of now: id, and why. They are given out again later.
        failed: Vec<(String, String)>,
    },
    /// Questions of a hygiene campaign to one owner.
    Questions {
        /// The campaign.
        campaign_id: String,
        /// The keys.
        key_ids: Vec<String>,
    },
    /// Something that nothing is written down of.
    Else,
}
