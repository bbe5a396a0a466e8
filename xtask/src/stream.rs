//! The output of other programs, line by line, while they run.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{process, reap};

/// Runs a program and shows each line of its output to `see`, both streams in one order. Returns
/// `None` when it took longer than `limit` and was ended.
pub(crate) fn watch(
    command: &mut Command,
    limit: Duration,
    mut see: impl FnMut(&str),
) -> Result<Option<ExitStatus>> {
    let name = process::name_of(command);
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))?;
    // The command keeps its own copies of the pipe's end; without this it never ends.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let lines = lines_of(reader);
    let end = Instant::now() + limit;
    let mut status = None;
    let mut quiet_since: Option<Instant> = None;
    loop {
        match lines.recv_timeout(Duration::from_millis(20)) {
            Ok(line) => {
                see(&line);
                continue;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let left = end.saturating_duration_since(Instant::now());
                return match status {
                    Some(status) => Ok(Some(status)),
                    None => process::wait(&mut child, Some(left)),
                };
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if status.is_none() {
            status = child.try_wait()?;
        }
        if let Some(status) = status {
            // Something it left behind may hold the pipe open: do not wait for that.
            if quiet_since.get_or_insert_with(Instant::now).elapsed() > Duration::from_secs(1) {
                process::go_on()?;
                return Ok(Some(status));
            }
        } else if process::interrupted().is_some() || Instant::now() > end {
            reap::end_tree(&mut child);
            process::go_on()?;
            return Ok(None);
        }
    }
}

/// Repeats a line of a program on standard output; a closed one is no reason to stop.
pub(crate) fn repeat(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// The lines of a stream, read in the background.
pub(crate) fn lines_of(stream: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader
            .read_until(b'\n', &mut line)
            .is_ok_and(|read| read > 0)
        {
            let text = String::from_utf8_lossy(&line);
            if send
                .send(text.trim_end_matches(['\n', '\r']).to_owned())
                .is_err()
            {
                break;
            }
            line.clear();
        }
    });
    receive
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::command;

    fn shell(script: &str) -> Command {
        let mut command = command("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn both_outputs_keep_their_order() -> Result<()> {
        let mut seen = Vec::new();
        let script = "echo a; echo b >&2; echo c; printf d; exit 3";
        let status = watch(&mut shell(script), Duration::from_secs(10), |line| {
            seen.push(line.to_owned())
        })?;
        assert_eq!(status.and_then(|status| status.code()), Some(3));
        assert_eq!(seen, ["a", "b", "c", "d"]);
        Ok(())
    }

    #[test]
    fn nobody_waits_for_what_was_left_behind() -> Result<()> {
        let start = Instant::now();
        let status = watch(
            &mut shell("sleep 20 & echo a"),
            Duration::from_secs(10),
            |_| {},
        )?;
        assert!(status.is_some_and(|status| status.success()));
        assert!(start.elapsed() < Duration::from_secs(8));
        Ok(())
    }

    #[test]
    fn what_takes_too_long_is_ended_with_its_children() -> Result<()> {
        let start = Instant::now();
        let limit = Duration::from_millis(300);
        let status = watch(
            &mut shell("sleep 47.11 & sleep 47.11; echo no"),
            limit,
            |_| {},
        )?;
        assert!(status.is_none());
        assert!(start.elapsed() < Duration::from_secs(8));
        assert_eq!(reap::running_with_argument("47.11"), 0);
        Ok(())
    }
}
