//! Taking over the hashes of keys that another system made. Each line is judged by the same rules
//! as a new key; good lines are written, bad ones are told by line.

use std::collections::HashMap;

use keywright_domain::api_keys::{
    ApiKey, Environment, KeyError, KeyMac, KeySettings, Kid, NewApiKey, Owner, redact,
};
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::base62::ordered_id;
use keywright_domain::scopes::ScopeSet;

use super::import_lines::{self, ImportError, ImportFormat, ImportRecord};
use crate::api_keys::{NewSecret, about_key, check_held, insert_key, judge, secret_details};
use crate::peppers::{PepperKey, Peppers};
use crate::store::{self, secrets::StoredMac};
use crate::writer::{Subject, Unit};
use crate::{LocalRegistry, RegistryError};

/// Lines of one transaction: the writer is never held for long.
const CHUNK: usize = 50;
/// What is shown for the end of a key that nobody kept.
const UNKNOWN_END: &str = "????";

/// How a file is to be taken.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// How it is written.
    pub format: ImportFormat,
    /// Judge everything, write nothing.
    pub dry_run: bool,
    /// What keys are shown with where a line names no prefix; it decides their type as well.
    pub prefix: String,
    /// Where they may be used, where a line does not say.
    pub environment: Option<Environment>,
    /// Who they belong to, where a line does not say.
    pub owner: Option<Owner>,
    /// The principal that takes them over and whose permissions bound them.
    pub creator: Option<String>,
    /// What whoever asks holds: no key may do more. None for no bound.
    pub held: Option<ScopeSet>,
    /// Whether keys without an end are taken where no policy says anything about it.
    pub allow_never_expires: bool,
}

/// A key that was taken over, or is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedKey {
    /// The line, from 1.
    pub line: u64,
    /// The key. In a dry run: of those that are there already only.
    pub key_id: Option<String>,
}

/// A line that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedLine {
    /// The line, from 1.
    pub line: u64,
    /// Stable.
    pub code: &'static str,
    /// In plain words.
    pub message: String,
}

/// What came of a file.
#[derive(Clone, Debug, Default)]
pub struct ImportReport {
    /// Nothing was written.
    pub dry_run: bool,
    /// Taken over, or what would be.
    pub imported: Vec<ImportedKey>,
    /// There already: nothing was done.
    pub present: Vec<ImportedKey>,
    /// Not taken.
    pub refused: Vec<RefusedLine>,
    /// The database failed after some lines: the lines from here on were not looked at. Running
    /// the import again is safe.
    pub stopped: Option<(u64, RegistryError)>,
}

/// A line that is ready to be judged.
struct Candidate {
    line: u64,
    wish: NewApiKey,
    expires_at: Option<i64>,
    new: NewSecret,
    /// Its value under every pepper: it may be there under an older one.
    macs: Vec<KeyMac>,
    id: String,
}

/// What became of a candidate.
enum Fate {
    Taken(String),
    Present(Option<String>),
    Refused(&'static str, String),
}

impl LocalRegistry {
    /// Takes over the SHA-256 hashes of keys that another system made; see
    /// [`keywright_domain::api_keys::ForeignHash::parse`] for their forms. The keys go on working as they are.
    ///
    /// # Errors
    /// [`ImportError`] for a file that cannot be read; everything else is in the report.
    pub async fn import_api_keys(
        &self,
        actor: &Actor,
        file: &[u8],
        peppers: &Peppers,
        options: &ImportOptions,
    ) -> Result<ImportReport, ImportError> {
        let mut import = self.begin_import(actor, file, peppers, options)?;
        while import.step().await {}
        Ok(import.finish())
    }

    /// The same in steps, for whoever shows how far it came. The file is read, and nothing is written yet.
    ///
    /// # Errors
    /// [`ImportError`] for a file that cannot be read.
    pub fn begin_import(
        &self,
        actor: &Actor,
        file: &[u8],
        peppers: &Peppers,
        options: &ImportOptions,
    ) -> Result<Import, ImportError> {
        let lines = import_lines::read(options.format, file)?;
        let total = lines.len();
        let mut report = ImportReport {
            dry_run: options.dry_run,
            ..ImportReport::default()
        };
        let mut candidates = Vec::with_capacity(lines.len());
        for line in lines {
            match line.record {
                Ok(record) => {
                    candidates.push(candidate(line.line, record, peppers, options, self.now()))
                }
                Err(problem) => report.refused.push(RefusedLine {
                    line: line.line,
                    code: problem.code,
                    message: problem.message,
                }),
            }
        }
        Ok(Import {
            registry: self.clone(),
            actor: actor.clone(),
            held: options.held.clone(),
            candidates: candidates.into_iter(),
            total,
            report,
        })
    }
}

/// An import that goes on in steps of 50 lines, each of which is written as a whole or not at all.
pub struct Import {
    registry: LocalRegistry,
    actor: Actor,
    held: Option<ScopeSet>,
    candidates: std::vec::IntoIter<Candidate>,
    total: usize,
    report: ImportReport,
}

impl std::fmt::Debug for Import {
    /// Counts alone: a file names keys and their owners.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Import")
            .field("total", &self.total)
            .field("imported", &self.report.imported.len())
            .finish_non_exhaustive()
    }
}

impl Import {
    /// Lines of the file that are records.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// What came of the lines that were looked at.
    #[must_use]
    pub fn report(&self) -> &ImportReport {
        &self.report
    }

    /// The line that it goes on with; none at its end.
    #[must_use]
    pub fn next_line(&self) -> Option<u64> {
        let next = self.candidates.as_slice().first();
        next.map(|candidate| candidate.line)
    }

    /// Takes the next lines. Returns false when there are no more, or when the database failed.
    pub async fn step(&mut self) -> bool {
        let Some(first) = self.next_line() else {
            return false;
        };
        let dry_run = self.report.dry_run;
        let chunk: Vec<_> = self.candidates.by_ref().take(CHUNK).collect();
        let lines: Vec<_> = chunk.iter().map(|candidate| candidate.line).collect();
        let input = (self.actor.clone(), chunk, self.held.clone());
        let written = self
            .registry
            .write(input, move |unit, (actor, chunk, held)| {
                Box::pin(take(unit, actor, chunk, held.as_ref(), dry_run))
            })
            .await;
        match written {
            Ok(fates) => {
                self.report.note(lines, fates);
                self.next_line().is_some()
            }
            Err(error) => {
                self.report.stopped = Some((first, error));
                false
            }
        }
    }

    /// What came of it, by line.
    #[must_use]
    pub fn finish(self) -> ImportReport {
        let mut report = self.report;
        report.refused.sort_by_key(|refused| refused.line);
        tracing::info!(
            dry_run = report.dry_run,
            imported = report.imported.len(),
            present = report.present.len(),
            refused = report.refused.len(),
            "hashes of foreign keys were imported"
        );
        report
    }
}

impl ImportReport {
    fn note(&mut self, lines: Vec<u64>, fates: Vec<Fate>) {
        for (line, fate) in lines.into_iter().zip(fates) {
            match fate {
                Fate::Taken(id) => self.imported.push(ImportedKey {
                    line,
                    key_id: (!self.dry_run).then_some(id),
                }),
                Fate::Present(key_id) => self.present.push(ImportedKey { line, key_id }),
                Fate::Refused(code, message) => self.refused.push(RefusedLine {
                    line,
                    code,
                    message,
                }),
            }
        }
    }
}

fn candidate(
    line: u64,
    record: ImportRecord,
    peppers: &Peppers,
    options: &ImportOptions,
    now: i64,
) -> Candidate {
    let PepperKey { id, pepper } = peppers.current();
    let digest = record.hash.digest();
    let new = NewSecret {
        kid: Kid::generate(&mut rand::rng()),
        last_four: record.last_four.unwrap_or_else(|| UNKNOWN_END.to_owned()),
        mac: StoredMac {
            mac: pepper.mac(digest),
            algorithm: record.hash.algorithm().as_str(),
            pepper_id: id.clone(),
        },
        from_client: true,
    };
    let wish = NewApiKey {
        name: record.name,
        prefix: record.prefix.unwrap_or_else(|| options.prefix.clone()),
        scopes: record.scopes,
        lifetime_ms: None,
        allow_never_expires: options.allow_never_expires,
        environment: record.environment.or_else(|| options.environment.clone()),
        owner: record.owner.or_else(|| options.owner.clone()),
        creator: options.creator.clone(),
        not_before: record.not_before,
        settings: KeySettings {
            networks: record.networks,
            tags: record.tags,
            note: record.note,
            metadata: record.metadata,
            ..KeySettings::default()
        },
        management: false,
    };
    Candidate {
        line,
        wish,
        expires_at: record.expires_at,
        macs: peppers.iter().map(|one| one.pepper.mac(digest)).collect(),
        new,
        id: ordered_id(now, &mut rand::rng()),
    }
}

async fn take(
    unit: &mut Unit,
    actor: &Actor,
    chunk: &[Candidate],
    held: Option<&ScopeSet>,
    dry_run: bool,
) -> Result<Vec<Fate>, RegistryError> {
    let mut fates = Vec::with_capacity(chunk.len());
    let mut keys: Vec<(usize, ApiKey)> = Vec::new();
    let mut seen: HashMap<[u8; 32], String> = HashMap::new();
    // Everything is judged before anything is written.
    for (index, candidate) in chunk.iter().enumerate() {
        let own = *candidate.new.mac.mac.as_bytes();
        let present = match seen.get(&own) {
            Some(id) => Some((!dry_run).then(|| id.clone())),
            None => find_present(unit, candidate).await?.map(Some),
        };
        if let Some(key_id) = present {
            fates.push(Fate::Present(key_id));
            continue;
        }
        let mut wish = candidate.wish.clone();
        wish.lifetime_ms = candidate.expires_at.map(|at| at.saturating_sub(unit.now()));
        if wish.lifetime_ms.is_some_and(|life| life <= 0) {
            let message = "this key has expired already; there is nothing to take over".to_owned();
            fates.push(Fate::Refused("key_expired", message));
            continue;
        }
        let judged = judge(unit, &wish, &candidate.new, &candidate.id).await;
        let judged = judged.and_then(|key| {
            check_held(held, &key.scopes, &ScopeSet::default())?;
            Ok(key)
        });
        match judged {
            Ok(key) => {
                seen.insert(own, key.id.clone());
                fates.push(Fate::Taken(key.id.clone()));
                keys.push((index, key));
            }
            Err(error) if error.is_of_the_database() => return Err(error),
            Err(error) => {
                fates.push(Fate::Refused(error.code(), message_of(&error)));
            }
        }
    }
    if dry_run {
        return Ok(fates);
    }
    for (index, mut key) in keys {
        let candidate = &chunk[index];
        key.epoch = unit.change(Subject::ApiKey(key.id.clone()));
        let secret = key.secrets[0].clone();
        insert_key(unit, &key, &secret, &candidate.new.mac).await?;
        let mut details = secret_details(&secret);
        details.push(("scopes", key.scopes.to_string()));
        details.push(("owner", key.owner.id.clone()));
        details.push(("algorithm", candidate.new.mac.algorithm.to_owned()));
        unit.audit(
            actor,
            about_key(
                AuditAction::ApiKeyImported,
                &key,
                "taken over from another system",
                details,
            ),
        );
    }
    Ok(fates)
}

/// The error's own words, unless they repeat what may be a key in a wrong column.
fn message_of(error: &RegistryError) -> String {
    match error {
        RegistryError::Key(KeyError::Scope(_)) => {
            "“scopes” are words like keys:read, in small letters".to_owned()
        }
        other => redact(&other.to_string()).into_owned(),
    }
}

async fn find_present(
    unit: &mut Unit,
    candidate: &Candidate,
) -> Result<Option<String>, RegistryError> {
    for mac in &candidate.macs {
        if let Some(kid) = store::images::of_foreign_mac(unit.read(), mac).await? {
            return store::secrets::find_key_id(unit.read(), &kid).await;
        }
    }
    Ok(None)
}
