//! The audit trail as a file: one JSON object a line (NDJSON), and its verification without any
//! database. First the header, then events by ascending sequence, each checkpoint right after the
//! event it names; a pruned trail has the checkpoint of the cut before its first event.

mod ended;
mod hex_text;
#[cfg(test)]
mod tests;

use std::io::{BufRead, Read, Write};

use keywright_domain::audit_chain::{
    ChainVerifier, ChainedEvent, Checkpoint, CheckpointKeyId, CheckpointPublicKey,
    CheckpointSignature, EventHash, SignedCheckpoint, Verdict,
};
use serde::{Deserialize, Serialize};

pub use ended::{EndedSince, PutBackPoint};
pub(crate) use ended::{KeyEnd, OwnerEnd};

/// What the header names as its format.
pub const EXPORT_FORMAT: &str = "keywright-audit";
/// The version of the format that is written, and the only one that is read.
pub const EXPORT_VERSION: u32 = 1;
/// Longest line that is written or read, in bytes, its end included: 1 MiB.
pub const MAX_LINE_LENGTH: usize = 1 << 20;

/// One line of an exported trail: `{"header":{…}}`, `{"event":{…}}` or `{"checkpoint":{…}}`.
/// Unknown fields are refused: what is not covered by a hash must not look as if it were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportLine {
    /// The first line, and only the first.
    Header(ExportHeader),
    /// An event with its stored hash.
    Event(ExportEvent),
    /// A signed checkpoint.
    Checkpoint(ExportCheckpoint),
}

/// What the export says of itself. Nothing vouches for it: it catches accidents, not attacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportHeader {
    format: String,
    version: u32,
    /// Whose trail; every checkpoint signs it too.
    pub registry_id: String,
    /// The keys its checkpoints were signed with: which ones to ask the registry's owner about.
    /// They are not trusted for standing here.
    #[serde(with = "hex_text::list")]
    pub public_keys: Vec<CheckpointPublicKey>,
    /// The last event that was pruned; 0 if the trail begins at event 1.
    pub starts_after: i64,
    /// The last event when this was written, so that a file that broke off is told from a whole one.
    pub ends_at: i64,
}

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportEvent {
    /// Position, from 1, without gaps.
    pub sequence: i64,
    /// Unix ms.
    pub at: i64,
    /// For example `api_key.issued`.
    pub action: String,
    /// Who.
    pub actor: String,
    /// `api_key`, `account`, `scope` or `registry`.
    pub target_kind: String,
    /// Its id.
    pub target_id: String,
    /// Its name when it happened.
    pub target_name: String,
    /// One sentence.
    pub summary: String,
    /// The stored JSON text, as a string: hashed byte for byte.
    pub details: String,
    /// The hash that is stored beside it.
    #[serde(with = "hex_text")]
    pub hash: EventHash,
}

/// A checkpoint and its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportCheckpoint {
    /// Whose trail.
    pub registry_id: String,
    /// The event it stands after.
    pub sequence: i64,
    /// That event's hash.
    #[serde(with = "hex_text")]
    pub hash: EventHash,
    /// When it was signed, Unix ms.
    pub at: i64,
    /// The key that signed it.
    #[serde(with = "hex_text")]
    pub key_id: CheckpointKeyId,
    /// Ed25519.
    #[serde(with = "hex_text")]
    pub signature: CheckpointSignature,
}

/// Why an export could not be written or judged. Damage to the trail is not an error but a
/// [`Verdict`].
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The writer failed.
    #[error("the export could not be written: {0}")]
    Write(std::io::Error),
    /// The line would be longer than [`MAX_LINE_LENGTH`], so that nobody could read it back.
    #[error("an event is too long to be exported")]
    TooLongToWrite,
    /// The reader failed.
    #[error("line {line} could not be read: {source}")]
    Read {
        /// From 1.
        line: u64,
        /// What failed.
        source: std::io::Error,
    },
    /// Longer than [`MAX_LINE_LENGTH`].
    #[error("line {line} is longer than a line may be")]
    LineTooLong {
        /// From 1.
        line: u64,
    },
    /// Not one of the three lines.
    #[error("line {line} is not a line of an audit export: {reason}")]
    Malformed {
        /// From 1.
        line: u64,
        /// What is wrong with it; it may quote the line.
        reason: String,
    },
    /// The first line is not a header of this format.
    #[error("this is not an audit export of Keywright")]
    NotAnExport,
    /// The header names another version.
    #[error(
        "the export has format version {found}; this program reads version {EXPORT_VERSION} only"
    )]
    Version {
        /// The version it names.
        found: u64,
    },
    /// A second header.
    #[error("line {line} is a second header")]
    SecondHeader {
        /// From 1.
        line: u64,
    },
}

impl ExportHeader {
    /// A header of the version that is written.
    #[must_use]
    pub fn new(
        registry_id: String,
        public_keys: Vec<CheckpointPublicKey>,
        starts_after: i64,
        ends_at: i64,
    ) -> Self {
        Self {
            format: EXPORT_FORMAT.to_owned(),
            version: EXPORT_VERSION,
            registry_id,
            public_keys,
            starts_after,
            ends_at,
        }
    }
}

impl ExportEvent {
    /// The event without its hash.
    #[must_use]
    pub fn as_chained(&self) -> ChainedEvent<'_> {
        ChainedEvent {
            sequence: self.sequence,
            at: self.at,
            action: &self.action,
            actor: &self.actor,
            target_kind: &self.target_kind,
            target_id: &self.target_id,
            target_name: &self.target_name,
            summary: &self.summary,
            details: &self.details,
        }
    }
}

impl From<SignedCheckpoint> for ExportCheckpoint {
    fn from(signed: SignedCheckpoint) -> Self {
        let SignedCheckpoint {
            checkpoint,
            signature,
        } = signed;
        Self {
            registry_id: checkpoint.registry_id,
            sequence: checkpoint.sequence,
            hash: checkpoint.hash,
            at: checkpoint.at,
            key_id: checkpoint.key_id,
            signature,
        }
    }
}

impl From<ExportCheckpoint> for SignedCheckpoint {
    fn from(line: ExportCheckpoint) -> Self {
        Self {
            checkpoint: Checkpoint {
                registry_id: line.registry_id,
                sequence: line.sequence,
                hash: line.hash,
                at: line.at,
                key_id: line.key_id,
            },
            signature: line.signature,
        }
    }
}

/// Writes one line, ended by a line feed. Nothing is written of a line that is too long.
///
/// # Errors
/// [`ExportError::TooLongToWrite`], or [`ExportError::Write`] if the writer fails.
pub fn write_line(writer: &mut impl Write, line: &ExportLine) -> Result<(), ExportError> {
    let mut text = serde_json::to_vec(line).map_err(|error| ExportError::Write(error.into()))?;
    text.push(b'\n');
    if text.len() > MAX_LINE_LENGTH {
        return Err(ExportError::TooLongToWrite);
    }
    writer.write_all(&text).map_err(ExportError::Write)
}

/// Verifies a whole export in constant memory, without any database and without trusting where it
/// came from. Only `trusted` keys vouch for anything; those in the header do not.
///
/// A file may be cut at its end together with its last checkpoints and with its header changed
/// accordingly: whoever knows how far the trail should go compares that with the verdict's `last`.
///
/// # Errors
/// [`ExportError`] with the number of the line if the file cannot be read as an export, unless the
/// trail was found broken on an earlier line: then that is the verdict.
pub fn verify_export(
    reader: impl BufRead,
    trusted: &[CheckpointPublicKey],
) -> Result<Verdict, ExportError> {
    let mut lines = Lines::new(reader);
    let header = read_header(&mut lines)?;
    let mut verifier = ChainVerifier::from_genesis(&header.registry_id, trusted);
    loop {
        let line = match lines.next_line() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(_) if verifier.is_broken() => return Ok(verifier.finish()),
            Err(error) => return Err(error),
        };
        match line {
            ExportLine::Event(event) => verifier.event(&event.as_chained(), &event.hash),
            ExportLine::Checkpoint(checkpoint) => {
                let signed = SignedCheckpoint::from(checkpoint);
                // Only where the trail begins: later, it would make all before it unsaid. If the
                // header speaks of no cut, the trail begins at event 1.
                if lines.number == 2 && header.starts_after == signed.checkpoint.sequence {
                    verifier =
                        ChainVerifier::from_checkpoint(&header.registry_id, trusted, &signed);
                } else {
                    verifier.checkpoint(&signed);
                }
            }
            ExportLine::Header(_) if verifier.is_broken() => break,
            ExportLine::Header(_) => return Err(ExportError::SecondHeader { line: lines.number }),
        }
    }
    verifier.expect_through(header.ends_at);
    Ok(verifier.finish())
}

/// The format and version of a first line, whatever else another version may hold.
#[derive(Deserialize)]
struct AnyHeader {
    header: AnyVersion,
}

#[derive(Deserialize)]
struct AnyVersion {
    format: String,
    version: u64,
}

fn read_header(lines: &mut Lines<impl BufRead>) -> Result<ExportHeader, ExportError> {
    let text = match lines.next_text() {
        Ok(Some(text)) => text,
        Ok(None) | Err(ExportError::LineTooLong { .. }) => return Err(ExportError::NotAnExport),
        Err(error) => return Err(error),
    };
    let any: AnyHeader = serde_json::from_slice(text).map_err(|_| ExportError::NotAnExport)?;
    if any.header.format != EXPORT_FORMAT {
        return Err(ExportError::NotAnExport);
    }
    if any.header.version != u64::from(EXPORT_VERSION) {
        return Err(ExportError::Version {
            found: any.header.version,
        });
    }
    match serde_json::from_slice(text) {
        Ok(ExportLine::Header(header)) => Ok(header),
        Ok(_) => Err(ExportError::NotAnExport),
        Err(error) => Err(malformed(1, &error)),
    }
}

/// Lines of bounded length, numbered from 1.
struct Lines<R> {
    reader: R,
    /// Of the line that was read last.
    number: u64,
    text: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            number: 0,
            text: Vec::new(),
        }
    }

    /// The next line without its end (LF or CRLF) and white space before it, which says nothing in
    /// JSON; `None` at the end of the file.
    fn next_text(&mut self) -> Result<Option<&[u8]>, ExportError> {
        self.text.clear();
        self.number += 1;
        let line = self.number;
        // One byte more than allowed tells a line that is too long from one that just fits.
        self.reader
            .by_ref()
            .take(MAX_LINE_LENGTH as u64 + 1)
            .read_until(b'\n', &mut self.text)
            .map_err(|source| ExportError::Read { line, source })?;
        if self.text.len() > MAX_LINE_LENGTH {
            return Err(ExportError::LineTooLong { line });
        }
        if self.text.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.text.trim_ascii_end()))
    }

    fn next_line(&mut self) -> Result<Option<ExportLine>, ExportError> {
        let Some(text) = self.next_text()? else {
            return Ok(None);
        };
        let parsed = serde_json::from_slice(text);
        parsed
            .map(Some)
            .map_err(|error| malformed(self.number, &error))
    }
}

/// The reason, short and on one line: it may quote a hostile line.
fn malformed(line: u64, error: &serde_json::Error) -> ExportError {
    let text = error.to_string();
    // The parser counts lines within the text it was given, which is always its line 1.
    let reason = text.split(" at line 1 column ").next().unwrap_or(&text);
    let reason = reason.chars().filter(|letter| !letter.is_control());
    ExportError::Malformed {
        line,
        reason: reason.take(200).collect(),
    }
}
