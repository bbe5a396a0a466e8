//! Programs as targets: started directly, given the secret on standard input, and held to a time.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use keywright_domain::SecretText;
use keywright_domain::api_keys::exposure::redact;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::Reason;

/// A program that has not ended by then is stopped.
const LIMIT: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 30 });
/// Most that is read of what a program prints.
const MOST_OUTPUT: u64 = 64 * 1024;
/// Most that is told of its complaint.
const MOST_COMPLAINT: usize = 200;

/// A program and its arguments.
#[derive(Clone, Debug)]
pub(super) struct CommandLine {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
}

/// Gives the secret, and nothing after it, to the program's standard input.
pub(super) async fn feed(line: &CommandLine, secret: &SecretText) -> Result<(), Reason> {
    let mut child = start(line, Stdio::piped(), Stdio::null())?;
    let input = child.stdin.take();
    within_limit(async {
        let taken = async {
            let Some(mut input) = input else {
                return Ok(());
            };
            input.write_all(secret.expose().as_bytes()).await?;
            input.shutdown().await
        };
        // The complaint is read meanwhile: a full pipe would hold the program up.
        let (taken, complaint) = tokio::join!(taken, complaint(&mut child));
        end(&mut child, &complaint).await?;
        taken.map_err(|error| format!("it did not read the secret ({error})"))
    })
    .await
}

/// What the program prints, without the line break at its end.
pub(super) async fn ask(line: &CommandLine) -> Result<SecretText, Reason> {
    let mut child = start(line, Stdio::null(), Stdio::piped())?;
    let output = child.stdout.take();
    within_limit(async {
        let mut bytes = Zeroizing::new(Vec::new());
        let read = async {
            match output {
                Some(output) => output.take(MOST_OUTPUT).read_to_end(&mut bytes).await,
                None => Ok(0),
            }
        };
        let (read, complaint) = tokio::join!(read, complaint(&mut child));
        end(&mut child, &complaint).await?;
        read.map_err(|error| error.to_string())?;
        let text =
            std::str::from_utf8(&bytes).map_err(|_| "what it printed is not text".to_owned())?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        Ok(SecretText::new(text.to_owned()))
    })
    .await
}

fn start(line: &CommandLine, input: Stdio, output: Stdio) -> Result<Child, Reason> {
    Command::new(&line.program)
        .args(&line.arguments)
        .stdin(input)
        .stdout(output)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("it could not be started ({error})"))
}

/// Dropping what has not ended stops the program.
async fn within_limit<T>(work: impl Future<Output = Result<T, Reason>>) -> Result<T, Reason> {
    let late = |_| Err(format!("it did not end within {} s", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(late)
}

async fn complaint(child: &mut Child) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::new());
    if let Some(errors) = child.stderr.take() {
        let mut errors = errors.take(MOST_OUTPUT);
        // What cannot be read is not told; the exit code is.
        errors.read_to_end(&mut bytes).await.unwrap_or_default();
    }
    bytes
}

async fn end(child: &mut Child, complaint: &[u8]) -> Result<(), Reason> {
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let text = Zeroizing::new(String::from_utf8_lossy(complaint).into_owned());
    // A program may repeat what it was given: keys are taken out of what is told.
    let told: String = redact(text.trim())
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(MOST_COMPLAINT)
        .collect();
    let status = match status.code() {
        Some(code) => format!("it ended with exit code {code}"),
        None => "it was stopped by a signal".to_owned(),
    };
    Err(if told.is_empty() {
        status
    } else {
        format!("{status} and said: {told}")
    })
}
