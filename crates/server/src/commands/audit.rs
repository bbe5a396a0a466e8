//! `keywright-server audit verify`: an export of a trail, judged by the file and a key that was kept apart.
//! It needs no data folder, no database and no network.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use keywright_domain::audit_chain::{CheckpointPublicKey, Verdict};
use keywright_registry::audit_export::verify_export;
use serde_json::{Value, json};

/// What is done about the audit trail.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum AuditCommand {
    /// Verifies an exported trail with nothing but the file and the key.
    Verify(Verify),
}

impl AuditCommand {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Verify(verify) => verify.run().await,
        }
    }
}

/// Verifies an exported trail, however long it is. Exit code 1 where it is not as it was written, or no
/// checkpoint vouches for any of it; 2 where it cannot be read. Whoever knows how far the trail must go
/// compares that with `last`: a file can be cut at its end.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The export (`GET /api/v1/audit/export`); `-` for standard input.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The public key that signed its checkpoints, as `GET /api/v1/audit/checkpoint-keys` named it when it
    /// was written down elsewhere. Several, if it was replaced.
    #[arg(long = "public-key", value_name = "HEX", required = true)]
    public_keys: Vec<CheckpointPublicKey>,
}

impl Verify {
    async fn run(self) -> Result<ExitCode> {
        let judged = tokio::task::spawn_blocking(move || self.judge()).await?;
        let verdict = match judged {
            Ok(verdict) => verdict,
            Err(error) => {
                super::complain(&error);
                return Ok(ExitCode::from(2));
            }
        };
        eprintln!("{verdict}");
        println!("{}", view(&verdict));
        Ok(match verdict {
            Verdict::Intact {
                vouched: Some(_), ..
            } => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }

    fn judge(&self) -> Result<Verdict> {
        let name = self.file.display();
        let reader: Box<dyn BufRead> = if self.file.as_os_str() == "-" {
            Box::new(BufReader::new(std::io::stdin()))
        } else {
            let file = File::open(&self.file).with_context(|| format!("{name}"))?;
            if file.metadata()?.is_dir() {
                bail!("{name} is a folder");
            }
            Box::new(BufReader::new(file))
        };
        verify_export(reader, &self.public_keys).with_context(|| format!("{name}"))
    }
}

fn view(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Intact {
            events,
            first,
            last,
            checkpoints,
            vouched,
            hash,
        } => json!({
            "intact": true,
            "events": events,
            "first": first,
            "last": last,
            "checkpoints": checkpoints,
            "vouched_through": vouched,
            "hash": hash.to_string(),
        }),
        Verdict::Broken { at, vouched, .. } => json!({
            "intact": false,
            "at": at,
            "vouched_through": vouched,
            "summary": verdict.to_string(),
        }),
    }
}
