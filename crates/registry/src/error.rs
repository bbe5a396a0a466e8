//! What can go wrong in the registry, each with a stable code.

use keywright_domain::api_keys::{KeyError, PolicyError};
use keywright_domain::scopes::ScopeError;

/// An error of the registry. Nothing was changed when one is returned.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    /// A rule of the domain was broken.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A rule about people, clients or grants was broken.
    #[error(transparent)]
    People(#[from] keywright_domain::people::PeopleError),
    /// Not a scope.
    #[error(transparent)]
    Scope(#[from] ScopeError),
    /// Not a requirement on scopes.
    #[error(transparent)]
    Requirement(#[from] keywright_domain::scopes::RequirementError),
    /// No such key.
    #[error("there is no key with this id")]
    KeyNotFound,
    /// No such account.
    #[error("there is no account with this id")]
    AccountNotFound,
    /// No such owner or creator, or it is suspended.
    #[error("there is no person, service or team with this id that keys can belong to")]
    OwnerNotFound,
    /// The id is taken.
    #[error("there is a person, service or team with this id already")]
    OwnerExists,
    /// A policy that contradicts itself.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Somebody changed it since it was read.
    #[error("it was changed by somebody else since it was read")]
    Changed,
    /// No such rotation.
    #[error("there is no rotation with this id")]
    RotationNotFound,
    /// This rotation was carried out before; its secret is not stored and cannot be shown again.
    #[error("this rotation was already carried out")]
    RotationAlreadyDone {
        /// Kid of the secret it made.
        kid: String,
    },
    /// The key has no schedule.
    #[error("the key has no schedule of rotations")]
    ScheduleNotFound,
    /// Not a schedule.
    #[error(transparent)]
    Schedule(#[from] keywright_domain::schedules::ScheduleError),
    /// No such notice.
    #[error("there is no notice with this id")]
    NoticeNotFound,
    /// No such webhook.
    #[error("there is no webhook with this id")]
    WebhookNotFound,
    /// No such invitation.
    #[error("there is no invitation with this id")]
    InvitationNotFound,
    /// No such scope in the catalogue.
    #[error("there is no such scope in the catalogue")]
    ScopeNotFound,
    /// Something uses it, and what.
    #[error("this scope is in use: {0}")]
    ScopeInUse(&'static str),
    /// No such message.
    #[error("there is no message with this id")]
    MessageNotFound,
    /// The same idempotency key with another request.
    #[error("this idempotency key was used with another request")]
    IdempotencyKeyReused,
    /// It was done before, under the same idempotency key by the same request.
    #[error("this was done before by the same request")]
    DoneBefore {
        /// Id of what was made then; empty where nothing was that the request did not name.
        made: String,
    },
    /// The same request is being carried out now.
    #[error("the same request is being carried out: ask again in a moment")]
    RequestUnderWay,
    /// It does not stand as the caller saw it.
    #[error("it does not stand as you saw it any more: read it again")]
    Precondition,
    /// No such operation.
    #[error("there is no operation with this id")]
    OperationNotFound,
    /// No such campaign of hygiene.
    #[error("there is no campaign with this id")]
    CampaignNotFound,
    /// A campaign that does not ask about this key.
    #[error("this campaign does not ask about this key")]
    QuestionNotFound,
    /// Scopes are to be narrowed to a proposal that is another one by now.
    #[error("what is proposed for this key is something else by now: read it again")]
    ProposalChanged,
    /// Scopes are to be narrowed to what was used, and some uses named none.
    #[error("some uses of this key named no scope: look at the proposal and accept it by its id")]
    UsesUnnamed,
    /// A campaign that was closed or called off.
    #[error("this campaign is over")]
    CampaignOver,
    /// What was decided about the key was done.
    #[error("the key was retired already: nothing is left to be decided")]
    QuestionSettled,
    /// A number or a list outside its bounds; the text says which.
    #[error("{0}")]
    Bounds(&'static str),
    /// A text holds U+0000, which PostgreSQL has no place for: it is refused on SQLite as well.
    #[error("a text cannot hold the character U+0000")]
    Character,
    /// Events are only removed behind a signature.
    #[error(
        "old activity is only removed behind a signed checkpoint, and no key to sign was given"
    )]
    CheckpointKeyMissing,
    /// A cursor that this registry did not give.
    #[error("the list cannot go on from here")]
    Cursor,
    /// The row names a pepper that was not handed over.
    #[error("the keychain does not hold the pepper that this registry's keys were made with")]
    PepperMissing,
    /// The id of a new pepper is taken.
    #[error("there is a pepper with this id already")]
    PepperExists,
    /// Another process holds the write lock.
    #[error("another program is writing to the registry file and does not let go")]
    Locked,
    /// The file or its folder cannot be written.
    #[error("the registry file cannot be written")]
    ReadOnly,
    /// The disk is full.
    #[error("the disk is full")]
    DiskFull,
    /// The file was written by a newer version.
    #[error(
        "the registry file was written by a newer version of Keywright (schema {found}, this version knows {known})"
    )]
    SchemaTooNew {
        /// Version in the file.
        found: i64,
        /// Newest version this program knows.
        known: i64,
    },
    /// The file is cut short, overwritten or not a registry at all.
    #[error("the registry file is damaged: {0}")]
    Damaged(String),
    /// The path leads through a symbolic link, or the folder is open to others.
    #[error("the registry's place is not safe: {0}")]
    UnsafePath(String),
    /// The connection was lost during COMMIT: the change may have taken place.
    #[error("whether the change was written is not known: {0}")]
    CommitUnknown(String),
    /// Limits are counted for all nodes together, and that cannot be asked now.
    #[error("rate limits cannot be counted now")]
    LimitsUnavailable,
    /// The database says nothing at all: another try would only wait as long again.
    #[error("the registry could not answer: the database does not answer")]
    Silent,
    /// Anything else the database said.
    #[error("the registry could not answer: {0}")]
    Store(String),
}

impl RegistryError {
    /// Whether the database failed, and not a rule: the transaction is lost then.
    pub(crate) fn is_of_the_database(&self) -> bool {
        matches!(
            self,
            Self::Locked
                | Self::ReadOnly
                | Self::DiskFull
                | Self::Damaged(_)
                | Self::Silent
                | Self::Store(_)
                // PostgreSQL says so, and its transaction is lost with it.
                | Self::Character
        )
    }

    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Key(error) => error.code(),
            Self::People(error) => error.code(),
            Self::Scope(_) => "invalid_scope",
            Self::Requirement(error) => error.code(),
            Self::KeyNotFound => "key_not_found",
            Self::AccountNotFound => "account_not_found",
            Self::OwnerNotFound => "owner_not_found",
            Self::OwnerExists => "owner_exists",
            Self::Policy(error) => error.code(),
            Self::Changed => "changed_meanwhile",
            Self::RotationNotFound => "rotation_not_found",
            Self::RotationAlreadyDone { .. } => "rotation_already_done",
            Self::ScheduleNotFound => "schedule_not_found",
            Self::Schedule(error) => error.code(),
            Self::NoticeNotFound => "notice_not_found",
            Self::WebhookNotFound => "webhook_not_found",
            Self::InvitationNotFound => "invitation_not_found",
            Self::ScopeNotFound => "scope_not_found",
            Self::ScopeInUse(_) => "scope_in_use",
            Self::MessageNotFound => "message_not_found",
            Self::IdempotencyKeyReused => "idempotency_key_reused",
            Self::DoneBefore { .. } => "done_before",
            Self::RequestUnderWay => "request_under_way",
            Self::Precondition => "precondition_failed",
            Self::OperationNotFound => "operation_not_found",
            Self::CampaignNotFound => "campaign_not_found",
            Self::QuestionNotFound => "question_not_found",
            Self::ProposalChanged => "proposal_changed",
            Self::UsesUnnamed => "uses_without_scope",
            Self::CampaignOver => "campaign_over",
            Self::QuestionSettled => "question_settled",
            Self::Bounds(_) => "out_of_bounds",
            Self::Character => "invalid_character",
            Self::CheckpointKeyMissing => "checkpoint_key_missing",
            Self::Cursor => "invalid_cursor",
            Self::PepperMissing => "pepper_missing",
            Self::PepperExists => "pepper_exists",
            Self::Locked => "registry_locked",
            Self::ReadOnly => "registry_read_only",
            Self::DiskFull => "disk_full",
            Self::SchemaTooNew { .. } => "schema_too_new",
            Self::Damaged(_) => "registry_damaged",
            Self::UnsafePath(_) => "registry_unsafe_path",
            Self::CommitUnknown(_) => "commit_unknown",
            Self::LimitsUnavailable => "limits_unavailable",
            Self::Silent | Self::Store(_) => "registry_unavailable",
        }
    }
}

/// PostgreSQL's codes (its manual, appendix A) have five characters; SQLite's have fewer.
fn from_sqlstate(state: &str, message: &str) -> RegistryError {
    match state {
        "55P03" | "57014" | "40P01" => RegistryError::Locked,
        "25006" => RegistryError::ReadOnly,
        "53100" => RegistryError::DiskFull,
        // `character_not_in_repertoire`: texts of ours are UTF-8, so that it can only be U+0000.
        "22021" => RegistryError::Character,
        _ if state.starts_with("XX") => RegistryError::Damaged(message.to_owned()),
        _ => RegistryError::Store(message.to_owned()),
    }
}

impl From<sqlx::Error> for RegistryError {
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else {
            return match error {
                sqlx::Error::PoolTimedOut => Self::Locked,
                other => Self::Store(other.to_string()),
            };
        };
        if let Some(state) = database.code().filter(|code| code.len() == 5) {
            return from_sqlstate(&state, database.message());
        }
        // Extended result codes carry the primary one in their low byte (sqlite.org/rescode.html).
        let code = database
            .code()
            .and_then(|code| code.parse::<u32>().ok())
            .map(|code| code & 0xff);
        match code {
            Some(5 | 6) => Self::Locked,
            Some(3 | 8 | 14) => Self::ReadOnly,
            Some(13) => Self::DiskFull,
            Some(11 | 26) => Self::Damaged(database.message().to_owned()),
            _ => Self::Store(database.message().to_owned()),
        }
    }
}
