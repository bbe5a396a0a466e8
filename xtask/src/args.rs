//! What was asked for on the command line.

use std::{fmt, path::PathBuf};

use crate::bench_rows::{self, Row};

/// The text of `cargo xtask help`.
pub(crate) const HELP: &str = "\
Usage: cargo xtask COMMAND [FLAGS]

  run                 build the app and start it; without a display, in a private session
      --release         the optimised build
      --smoke           open every page of a fresh app, light and dark, and take pictures
      --server          the server instead, on http://127.0.0.1:8377 with data of its own
  test [FILTER]       all tests; FILTER keeps those whose name contains it
      --quick           without fuzzing and the tests that drive a browser or the window
  check               format, lints, dependency rules, UI types and lints, bindings, house rules
      --fix             mend what can be mended first
  bindings            write the TypeScript side of the commands (ui/src/lib/bindings.ts)
  scenarios           write the table of scenarios and their tests (docs/scenarios.md)
  bundle [server]     release build and packages, of the app or of the server
      --verify          install the package and start it
  bench [WHICH]       measure: registry, server, desktop or all (the default); of these also one part:
                      server-requests, server-sizes, server-nodes, server-starts, registry-lists or
                      registry-instructions; or one row of the design (`cargo xtask bench --help` lists them)
      --json            only JSON lines, no table
      --rounds N        how often the server's cases take turns (times four); without it five
      --file FILE       a registry that is filled already, for the rows with 10 M keys
      --smoke           debug builds and small sizes: to see that it works, not to measure
      --gates           fail when a gate is missed, and list those that are
  fuzz [TARGET]       throw inputs at the parsers, each target in turn or this one
      --seconds N       how long each; without it a minute
      --input FILE      only this input, to see a crash again
  postgres            a PostgreSQL server for tests, in the foreground; prints its address
  help                this text

Each command first installs what it needs and is missing, and says so.
";

/// One command with its flags.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Help,
    Run(Run),
    Test(Test),
    Check {
        fix: bool,
    },
    Bindings,
    Scenarios,
    Bundle {
        verify: bool,
        server: bool,
    },
    Bench(Bench),
    /// `bench --help`: its rows as well.
    BenchHelp,
    Fuzz(Fuzz),
    Postgres,
}

/// Flags of `run`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) release: bool,
    pub(crate) smoke: bool,
    pub(crate) server: bool,
}

/// Flags of `test`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) quick: bool,
    pub(crate) filter: Option<String>,
}

/// Flags of `fuzz`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fuzz {
    pub(crate) target: Option<String>,
    pub(crate) seconds: u64,
    pub(crate) input: Option<PathBuf>,
}

/// Flags of `bench`.
#[derive(Debug, PartialEq)]
pub(crate) struct Bench {
    pub(crate) which: Which,
    pub(crate) json: bool,
    pub(crate) smoke: bool,
    pub(crate) gates: bool,
    pub(crate) rounds: Option<usize>,
    pub(crate) file: Option<PathBuf>,
}

/// What to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Which {
    Registry,
    /// Lists of keys, on both databases.
    Lists,
    /// Instructions of the paths in process.
    Instructions,
    /// All of the server's, or one part of it.
    Server(ServerBench),
    Desktop,
    /// One row of the design.
    Row(&'static Row),
    All,
}

/// The parts of the server's bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerBench {
    All,
    Requests,
    Sizes,
    Nodes,
    Starts,
}

/// Why the command line was not understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Command(String),
    Flag { command: String, word: String },
    Value { flag: String },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(name) => write!(f, "there is no command `{name}`"),
            Self::Flag { command, word } => write!(f, "`{command}` does not take `{word}`"),
            Self::Value { flag } => write!(f, "`{flag}` wants a value that fits"),
        }
    }
}

/// Reads the words after `cargo xtask`.
pub(crate) fn parse(words: &[String]) -> Result<Command, Wrong> {
    let Some((name, rest)) = words.split_first() else {
        return Ok(Command::Help);
    };
    if rest.iter().any(|word| word == "--help" || word == "-h") {
        if name == "bench" {
            return Ok(Command::BenchHelp);
        }
        return known(name)
            .then_some(Command::Help)
            .ok_or_else(|| Wrong::Command(name.clone()));
    }
    let mut rest = Rest {
        command: name,
        words: rest.to_vec(),
    };
    let command = match name.as_str() {
        "help" | "--help" | "-h" => Command::Help,
        "run" => Command::Run(Run {
            release: rest.flag("--release"),
            smoke: rest.flag("--smoke"),
            server: rest.flag("--server"),
        }),
        "test" => Command::Test(Test {
            quick: rest.flag("--quick"),
            filter: rest.word(),
        }),
        "check" => Command::Check {
            fix: rest.flag("--fix"),
        },
        "bindings" => Command::Bindings,
        "scenarios" => Command::Scenarios,
        "bundle" => Command::Bundle {
            verify: rest.flag("--verify"),
            server: rest.flag("server"),
        },
        "bench" => Command::Bench(Bench {
            json: rest.flag("--json"),
            smoke: rest.flag("--smoke"),
            gates: rest.flag("--gates"),
            rounds: rest.value("--rounds", parse_rounds)?,
            file: rest.value("--file", |word| Some(word.into()))?,
            which: rest.which()?,
        }),
        "fuzz" => Command::Fuzz(Fuzz {
            seconds: rest.value("--seconds", parse_seconds)?.unwrap_or(60),
            input: rest.value("--input", |word| Some(word.into()))?,
            target: rest.word(),
        }),
        "postgres" => Command::Postgres,
        _ => return Err(Wrong::Command(name.clone())),
    };
    rest.end()?;
    Ok(command)
}

fn known(name: &str) -> bool {
    [
        "help",
        "run",
        "test",
        "check",
        "bindings",
        "scenarios",
        "bundle",
        "bench",
        "fuzz",
        "postgres",
    ]
    .contains(&name)
}

fn parse_seconds(word: &str) -> Option<u64> {
    word.parse().ok().filter(|seconds| *seconds > 0)
}

fn parse_rounds(word: &str) -> Option<usize> {
    word.parse().ok().filter(|rounds| *rounds > 0)
}

/// Words not yet understood.
struct Rest<'a> {
    command: &'a str,
    words: Vec<String>,
}

impl Rest<'_> {
    fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() != before
    }

    /// The word after a flag.
    fn value<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Wrong> {
        let Some(at) = self.words.iter().position(|word| word == name) else {
            return Ok(None);
        };
        let value = self.words.get(at + 1).and_then(|word| read(word));
        let value = value.ok_or_else(|| Wrong::Value {
            flag: name.to_owned(),
        })?;
        self.words.drain(at..at + 2);
        Ok(Some(value))
    }

    fn word(&mut self) -> Option<String> {
        let at = self
            .words
            .iter()
            .position(|word| !word.starts_with('-') && !word.is_empty())?;
        Some(self.words.remove(at))
    }

    fn which(&mut self) -> Result<Which, Wrong> {
        let Some(word) = self.word() else {
            return Ok(Which::All);
        };
        Ok(match word.as_str() {
            "all" => Which::All,
            "registry" => Which::Registry,
            "registry-lists" => Which::Lists,
            "registry-instructions" => Which::Instructions,
            "server" => Which::Server(ServerBench::All),
            "server-requests" => Which::Server(ServerBench::Requests),
            "server-sizes" => Which::Server(ServerBench::Sizes),
            "server-nodes" => Which::Server(ServerBench::Nodes),
            "server-starts" => Which::Server(ServerBench::Starts),
            "desktop" => Which::Desktop,
            other => match bench_rows::named(other) {
                Some(row) => Which::Row(row),
                None => return Err(self.wrong(other)),
            },
        })
    }

    fn end(&self) -> Result<(), Wrong> {
        self.words
            .first()
            .map_or(Ok(()), |word| Err(self.wrong(word)))
    }

    fn wrong(&self, word: &str) -> Wrong {
        Wrong::Flag {
            command: self.command.to_owned(),
            word: word.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<Command, Wrong>) {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        assert_eq!(parse(&words), expected, "{line}");
    }

    fn wrong(command: &str, word: &str) -> Result<Command, Wrong> {
        Err(Wrong::Flag {
            command: command.to_owned(),
            word: word.to_owned(),
        })
    }

    #[test]
    fn help_in_every_way() {
        for line in ["", "help", "--help", "-h", "run --help", "postgres -h"] {
            check(line, Ok(Command::Help));
        }
    }

    #[test]
    fn flags_in_any_order() {
        check(
            "run --smoke --release",
            Ok(Command::Run(Run {
                release: true,
                smoke: true,
                server: false,
            })),
        );
        check(
            "run --server",
            Ok(Command::Run(Run {
                server: true,
                ..Run::default()
            })),
        );
        check("run", Ok(Command::Run(Run::default())));
        for line in ["test --quick rotate", "test rotate --quick"] {
            let filter = Some("rotate".to_owned());
            check(
                line,
                Ok(Command::Test(Test {
                    quick: true,
                    filter,
                })),
            );
        }
        check("check --fix", Ok(Command::Check { fix: true }));
        let bundle = |verify, server| Ok(Command::Bundle { verify, server });
        check("bundle", bundle(false, false));
        check("bundle server --verify", bundle(true, true));
        check("postgres", Ok(Command::Postgres));
    }

    fn bench(which: Which) -> Bench {
        Bench {
            which,
            json: false,
            smoke: false,
            gates: false,
            rounds: None,
            file: None,
        }
    }

    #[test]
    fn bench_defaults_to_all() {
        check("bench", Ok(Command::Bench(bench(Which::All))));
        let json = Bench {
            json: true,
            ..bench(Which::Desktop)
        };
        check("bench --json desktop", Ok(Command::Bench(json)));
        let gates = Bench {
            gates: true,
            ..bench(Which::All)
        };
        check("bench --gates", Ok(Command::Bench(gates)));
        for line in ["bench --help", "bench desktop -h"] {
            check(line, Ok(Command::BenchHelp));
        }
    }

    #[test]
    fn bench_takes_a_part() {
        let server = |part| Which::Server(part);
        for (word, part) in [
            ("server", server(ServerBench::All)),
            ("server-requests", server(ServerBench::Requests)),
            ("server-sizes", server(ServerBench::Sizes)),
            ("server-nodes", server(ServerBench::Nodes)),
            ("server-starts", server(ServerBench::Starts)),
            ("registry", Which::Registry),
            ("registry-lists", Which::Lists),
            ("registry-instructions", Which::Instructions),
        ] {
            check(&format!("bench {word}"), Ok(Command::Bench(bench(part))));
        }
    }

    #[test]
    fn bench_takes_every_row_by_its_name() {
        for row in bench_rows::ROWS {
            let expected = Bench {
                rounds: Some(2),
                file: Some("a.db".into()),
                smoke: true,
                ..bench(Which::Row(row))
            };
            let line = format!("bench {} --rounds 2 --file a.db --smoke", row.name);
            check(&line, Ok(Command::Bench(expected)));
        }
        check("bench verify", wrong("bench", "verify"));
        for line in ["bench --rounds 0", "bench --rounds many"] {
            let flag = "--rounds".to_owned();
            check(line, Err(Wrong::Value { flag }));
        }
    }

    #[test]
    fn fuzz_takes_values() {
        let expected = |target: Option<&str>, seconds, input: Option<&str>| {
            Ok(Command::Fuzz(Fuzz {
                target: target.map(str::to_owned),
                seconds,
                input: input.map(PathBuf::from),
            }))
        };
        check("fuzz", expected(None, 60, None));
        check("fuzz --seconds 5", expected(None, 5, None));
        for line in ["fuzz a --seconds 5", "fuzz --seconds 5 a"] {
            check(line, expected(Some("a"), 5, None));
        }
        check("fuzz a --input b/c", expected(Some("a"), 60, Some("b/c")));
        for line in ["fuzz --seconds", "fuzz --seconds 0", "fuzz --seconds a"] {
            let flag = "--seconds".to_owned();
            check(line, Err(Wrong::Value { flag }));
        }
        check("fuzz a b", wrong("fuzz", "b"));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        check("fly", Err(Wrong::Command("fly".to_owned())));
        check("fly --help", Err(Wrong::Command("fly".to_owned())));
        check("run --fast", wrong("run", "--fast"));
        check("run now", wrong("run", "now"));
        check("test a b", wrong("test", "b"));
        check("bench everything", wrong("bench", "everything"));
        check("bench server-none", wrong("bench", "server-none"));
        check("help me", wrong("help", "me"));
        check("postgres 5432", wrong("postgres", "5432"));
    }
}
