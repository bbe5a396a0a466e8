//! The registry as a file without secrets: one JSON object a line (NDJSON), read at one moment and
//! page by page. First the header, last the footer, by which a file that broke off is told from a
//! whole one. Values of secrets are not read, so that none can be written.

use std::time::Duration;

use keywright_domain::api_keys::{ApiKey, Secret};
use keywright_domain::audit::{Actor, AuditAction};
use keywright_domain::people::Email;
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::AnyConnection;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::principals::Principal;
use crate::store::portable::StoredKey;
use crate::store::{self, secrets::state_text};
use crate::{LocalRegistry, RegistryError};

/// What the header names as its format.
const REGISTRY_FORMAT: &str = "keywright-registry";
/// The version of the format.
const REGISTRY_VERSION: u32 = 1;
const PAGE: i64 = 500;
/// Exports that are written at one time; further ones wait for a place. Each sees one moment, and so it keeps a
/// connection, and the log of the file from being shortened, for as long as whoever reads it takes.
pub(crate) const EXPORTS: usize = 2;
/// An export whose reader takes nothing for so long breaks off: others wait for its place.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why an export was not written to its end.
#[derive(Debug, thiserror::Error)]
pub enum RegistryExportError {
    /// The writer failed.
    #[error("the export could not be written: {0}")]
    Write(#[from] std::io::Error),
    /// The registry could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl RegistryExportError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Write(_) => "export_not_written",
            Self::Registry(error) => error.code(),
        }
    }
}

/// What an export holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExportSummary {
    /// Scopes of the catalogue.
    pub scopes: u64,
    /// Policies.
    pub policies: u64,
    /// People, services and teams.
    pub principals: u64,
    /// Keys.
    pub keys: u64,
    /// Their secrets.
    pub secrets: u64,
}

/// One line.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    Header(HeaderLine<'a>),
    Scope(ScopeLine<'a>),
    Policy(PolicyLine<'a>),
    Principal(PrincipalLine<'a>),
    Key(Box<KeyLine<'a>>),
    End(ExportSummary),
}

#[derive(Serialize)]
struct HeaderLine<'a> {
    format: &'static str,
    version: u32,
    registry_id: &'a str,
    schema: i64,
    at: i64,
    change_version: i64,
    audit_sequence: i64,
}

#[derive(Serialize)]
struct ScopeLine<'a> {
    name: &'a str,
    description: &'a str,
    low_risk: bool,
}

#[derive(Serialize)]
struct PolicyLine<'a> {
    environment: &'a str,
    policy: &'a RawValue,
}

#[derive(Serialize)]
struct PrincipalLine<'a> {
    id: &'a str,
    kind: &'static str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    permissions: String,
    disabled_at: Option<i64>,
    disabled_reason: Option<&'a str>,
    keys_revoked_at: Option<i64>,
    keys_revoked_reason: Option<&'a str>,
    created_at: i64,
}

#[derive(Serialize)]
struct KeyLine<'a> {
    id: &'a str,
    name: &'a str,
    prefix: &'a str,
    environment: &'a str,
    owner: String,
    creator: Option<&'a str>,
    scopes: String,
    limits: String,
    networks: String,
    origins: String,
    tags: &'a [String],
    note: &'a str,
    metadata: &'a std::collections::BTreeMap<String, String>,
    one_time: bool,
    canary: bool,
    credit_plan: Option<String>,
    credits_left: Option<i64>,
    epoch: i64,
    created_at: i64,
    not_before: Option<i64>,
    disabled_at: Option<i64>,
    disabled_reason: Option<&'a str>,
    exposed_at: Option<i64>,
    revoked_at: Option<i64>,
    revoked_reason: Option<&'a str>,
    promoted_to: Option<&'a str>,
    secrets: Vec<SecretLine<'a>>,
}

#[derive(Serialize)]
struct SecretLine<'a> {
    kid: &'a str,
    last_four: &'a str,
    state: &'static str,
    algorithm: &'a str,
    pepper_id: &'a str,
    created_at: i64,
    expires_at: Option<i64>,
    retires_at: Option<i64>,
    pending_until: Option<i64>,
    activated_at: Option<i64>,
    ended_at: Option<i64>,
    ended_reason: Option<&'a str>,
    first_used_at: Option<i64>,
    last_used_at: Option<i64>,
    use_count: i64,
}

impl LocalRegistry {
    /// Writes everything that the registry holds of keys and principals, without any secret.
    /// Memory does not grow with it. Two are written at a time, and a further one waits for its place; one
    /// whose writer takes nothing for a minute ends.
    ///
    /// # Errors
    /// [`RegistryExportError`]; what was written so far has no footer then.
    pub async fn export_registry<W>(
        &self,
        actor: &Actor,
        writer: &mut W,
    ) -> Result<ExportSummary, RegistryExportError>
    where
        W: AsyncWrite + Unpin + Send,
    {
        let lines = Lines {
            writer,
            patience: PATIENCE,
        };
        self.export_lines(actor, lines).await
    }

    async fn export_lines<W>(
        &self,
        actor: &Actor,
        mut lines: Lines<'_, W>,
    ) -> Result<ExportSummary, RegistryExportError>
    where
        W: AsyncWrite + Unpin + Send,
    {
        let place = self.shared.exports.acquire().await;
        let place = place.map_err(|error| RegistryError::Store(error.to_string()))?;
        self.flush_uses().await?;
        let schema = self.schema_version().await?;
        let mut snapshot = store::begin_snapshot(&self.shared.pool, self.shared.kind).await?;
        let summary = write_all(&mut snapshot, &mut lines, schema, self.now()).await?;
        snapshot.rollback().await.map_err(RegistryError::from)?;
        drop(place);
        let details = vec![("keys", summary.keys.to_string())];
        self.note(
            actor,
            AuditAction::RegistryExported,
            "The registry was exported, without secrets",
            details,
        )
        .await?;
        Ok(summary)
    }
}

async fn write_all<W: AsyncWrite + Unpin + Send>(
    connection: &mut AnyConnection,
    lines: &mut Lines<'_, W>,
    schema: i64,
    at: i64,
) -> Result<ExportSummary, RegistryExportError> {
    let head = store::portable::head(connection).await?;
    let mut summary = ExportSummary::default();
    let header = Line::Header(HeaderLine {
        format: REGISTRY_FORMAT,
        version: REGISTRY_VERSION,
        registry_id: &head.registry_id,
        schema,
        at,
        change_version: head.change_version,
        audit_sequence: head.audit_sequence,
    });
    lines.write(&header).await?;
    for scope in store::scopes::list(connection).await? {
        summary.scopes += 1;
        let line = Line::Scope(ScopeLine {
            name: scope.scope.as_str(),
            description: &scope.description,
            low_risk: scope.low_risk,
        });
        lines.write(&line).await?;
    }
    for (environment, text) in store::portable::policies(connection).await? {
        summary.policies += 1;
        let policy = serde_json::from_str(&text).map_err(|_| store::secrets::damaged("policy"))?;
        let line = Line::Policy(PolicyLine {
            environment: &environment,
            policy,
        });
        lines.write(&line).await?;
    }
    let mut after = String::new();
    loop {
        let page = store::principals::list(connection, None, &after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id.clone();
        for principal in &page {
            summary.principals += 1;
            lines
                .write(&Line::Principal(principal_line(principal)))
                .await?;
        }
    }
    let mut after = String::new();
    loop {
        let page = store::portable::key_page(connection, &after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.key.id.clone();
        for stored in &page {
            summary.keys += 1;
            summary.secrets += stored.key.secrets.len() as u64;
            lines.write(&Line::Key(Box::new(key_line(stored)))).await?;
        }
    }
    lines.write(&Line::End(summary)).await?;
    lines.end().await?;
    Ok(summary)
}

/// Where lines are written.
struct Lines<'a, W> {
    writer: &'a mut W,
    /// How long the reader may take for a line.
    patience: Duration,
}

impl<W: AsyncWrite + Unpin + Send> Lines<'_, W> {
    async fn write(&mut self, line: &Line<'_>) -> Result<(), RegistryExportError> {
        let mut text = serde_json::to_vec(line).map_err(std::io::Error::from)?;
        text.push(b'\n');
        in_patience(self.patience, self.writer.write_all(&text)).await
    }

    async fn end(&mut self) -> Result<(), RegistryExportError> {
        in_patience(self.patience, self.writer.flush()).await
    }
}

async fn in_patience(
    patience: Duration,
    written: impl Future<Output = std::io::Result<()>>,
) -> Result<(), RegistryExportError> {
    let written = tokio::time::timeout(patience, written).await;
    Ok(written.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??)
}

fn principal_line(principal: &Principal) -> PrincipalLine<'_> {
    PrincipalLine {
        id: &principal.id,
        kind: principal.kind.as_str(),
        name: &principal.name,
        email: principal.email.as_ref().map(Email::as_str),
        permissions: principal.permissions.to_string(),
        disabled_at: principal.disabled_at,
        disabled_reason: principal.disabled_reason.as_deref(),
        keys_revoked_at: principal.keys_revoked_at,
        keys_revoked_reason: principal.keys_revoked_reason.as_deref(),
        created_at: principal.created_at,
    }
}

fn key_line(stored: &StoredKey) -> KeyLine<'_> {
    let ApiKey {
        settings, secrets, ..
    } = &stored.key;
    let key = &stored.key;
    let secrets = secrets.iter().zip(&stored.stored);
    KeyLine {
        id: &key.id,
        name: &key.name,
        prefix: key.prefix.as_str(),
        environment: key.environment.as_str(),
        owner: key.owner.to_text(),
        creator: key.creator.as_deref(),
        scopes: key.scopes.to_string(),
        limits: settings.limits.to_text(),
        networks: settings.networks.to_text(),
        origins: settings.origins.to_text(),
        tags: settings.tags.as_slice(),
        note: settings.note.as_str(),
        metadata: settings.metadata.as_map(),
        one_time: settings.one_time,
        canary: settings.canary,
        credit_plan: settings.credits.as_ref().map(|plan| plan.to_text()),
        credits_left: stored.credits,
        epoch: key.epoch,
        created_at: key.created_at,
        not_before: key.not_before,
        disabled_at: key.disabled_at,
        disabled_reason: key.disabled_reason.as_deref(),
        exposed_at: key.exposed_at,
        revoked_at: key.revoked_at,
        revoked_reason: key.revoked_reason.as_deref(),
        promoted_to: key.promoted_to.as_deref(),
        secrets: secrets
            .map(|(secret, stored)| secret_line(secret, &stored.algorithm, &stored.pepper_id))
            .collect(),
    }
}

fn secret_line<'a>(secret: &'a Secret, algorithm: &'a str, pepper_id: &'a str) -> SecretLine<'a> {
    SecretLine {
        kid: secret.kid.as_str(),
        last_four: &secret.last_four,
        state: state_text(secret.stored),
        algorithm,
        pepper_id,
        created_at: secret.created_at,
        expires_at: secret.expires_at,
        retires_at: secret.retires_at,
        pending_until: secret.pending_until,
        activated_at: secret.activated_at,
        ended_at: secret.ended_at,
        ended_reason: secret.ended_reason.as_deref(),
        first_used_at: secret.first_used_at,
        last_used_at: secret.last_used_at,
        use_count: secret.use_count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Clock;

    #[tokio::test]
    async fn an_export_that_nobody_reads_gives_its_place_up() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("registry.db");
        let clock = Clock::from_fn(|| 1_800_000_000_000);
        let registry = LocalRegistry::open(&file, clock).await?;
        for _ in 0..=EXPORTS {
            let (mut writer, _reader) = tokio::io::duplex(16);
            let lines = Lines {
                writer: &mut writer,
                patience: Duration::from_millis(50),
            };
            let broken = registry.export_lines(&Actor::keywright(), lines).await;
            let broken = broken.expect_err("nobody reads it");
            assert_eq!(broken.code(), "export_not_written");
            assert_eq!(registry.shared.exports.available_permits(), EXPORTS);
        }
        registry.close().await;
        Ok(())
    }
}
