//! Counts tests by what the test runners print.

use serde_json::Value;

/// How many tests did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// How many tests `--list` names.
pub(crate) fn listed(text: &str) -> u64 {
    let tests = text.lines().filter(|line| line.ends_with(": test"));
    u64::try_from(tests.count()).unwrap_or(u64::MAX)
}

/// What a runner told so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) counts: Counts,
    pub(crate) failing: Vec<String>,
    /// Test programs that were started.
    started: u64,
    /// Test programs that told their result.
    finished: u64,
    current: String,
    /// Tests of the current program that passed because this machine does not allow what they are about.
    not_here: u64,
    /// The test whose words are being told, and how many lines of them may still be kept.
    telling: Option<(String, usize)>,
}

/// So many lines of why a test failed are repeated at the end: whoever sees the end alone sees why.
const KEPT_LINES: usize = 8;
/// And so many characters of each.
const KEPT_LETTERS: usize = 300;

/// What such a test says, and why, on a line of its own.
const NOT_HERE: &str = "skipped here: ";

impl Seen {
    /// Reads a line of `cargo test`.
    pub(crate) fn cargo_line(&mut self, line: &str) {
        let line = plain(line);
        let line = line.trim();
        self.said_by_a_failing_test(line);
        if let Some(binary) = line
            .strip_prefix("Running ")
            .and_then(|rest| rest.strip_suffix(')'))
        {
            self.started += 1;
            self.current = crate_of(binary);
        } else if let Some(name) = line.strip_prefix("Doc-tests ") {
            self.started += 1;
            self.current = format!("{name} (documentation)");
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.finished += 1;
            let not_here = std::mem::take(&mut self.not_here);
            self.counts += Counts {
                passed: before(result, " passed").saturating_sub(not_here),
                failed: before(result, " failed"),
                skipped: before(result, " ignored") + not_here,
            };
        } else if line.contains(NOT_HERE) {
            self.not_here += 1;
        } else if let Some(name) = failed_test(line) {
            self.failing.push(format!("{}: {name}", self.current));
        }
    }

    /// Keeps why each failing test failed, without what it said before that and without its backtrace.
    fn said_by_a_failing_test(&mut self, line: &str) {
        let told = line.strip_prefix("---- ");
        if let Some(name) = told.and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.telling = Some((format!("{}: {name}", self.current), KEPT_LINES));
            return;
        }
        let is_over = ["failures:", "stack backtrace:", "Stack backtrace:"].contains(&line);
        if is_over || line.starts_with("test result: ") || line.starts_with("note: run with ") {
            self.telling = None;
            return;
        }
        let Some((name, left)) = &mut self.telling else {
            return;
        };
        if let Some(failing) = self.failing.iter_mut().find(|told| {
            let begins = told.strip_prefix(name.as_str());
            begins.is_some_and(|rest| rest.is_empty() || rest.starts_with('\n'))
        }) && !line.is_empty()
            && *left > 0
        {
            let is_why = line.starts_with("Error: ")
                || (line.starts_with("thread '") && line.contains("panicked at"));
            if *left == KEPT_LINES && !is_why {
                return;
            }
            *left -= 1;
            failing.push_str("\n    ");
            failing.extend(line.chars().take(KEPT_LETTERS));
        }
    }

    /// Reads a line of the browser tests: `FAIL  NAME`, and at the end `N passed, N failed,
    /// N skipped`. With a filter, what it left out was not asked for.
    pub(crate) fn browser_line(&mut self, line: &str, filtered: bool) {
        let line = plain(line);
        let line = line.trim();
        if let Some(counts) = counts_in(line) {
            let skipped = if filtered { 0 } else { counts.skipped };
            self.counts += Counts { skipped, ..counts };
            self.finished += 1;
        } else if let Some(name) = line.strip_prefix("FAIL ") {
            self.failing.push(format!("browser: {}", name.trim()));
        }
    }

    /// One fuzz target, a test of its own.
    pub(crate) fn fuzz_target(&mut self, name: &str, outcome: &anyhow::Result<()>) {
        self.program(&format!("fuzz: {name}"), outcome);
    }

    /// A program that ran as a test.
    pub(crate) fn program(&mut self, name: &str, outcome: &anyhow::Result<()>) {
        match outcome {
            Ok(()) => self.counts.passed += 1,
            Err(error) => {
                self.counts.failed += 1;
                self.failing.push(format!("{name}: {error:#}"));
            }
        }
    }

    /// Reads vitest's JSON report. With a filter, what it left out was not asked for.
    pub(crate) fn vitest_report(&mut self, report: &Value, filtered: bool) {
        for file in report["testResults"].as_array().into_iter().flatten() {
            for test in file["assertionResults"].as_array().into_iter().flatten() {
                match test["status"].as_str() {
                    Some("passed") => self.counts.passed += 1,
                    Some("failed") => {
                        self.counts.failed += 1;
                        self.failing
                            .push(format!("ui: {}", test["fullName"].as_str().unwrap_or("?")));
                    }
                    _ if filtered => {}
                    _ => self.counts.skipped += 1,
                }
            }
        }
    }

    /// Whether a runner came to its end.
    pub(crate) fn has_result(&self) -> bool {
        self.finished > 0
    }

    /// Test programs that ended without telling a result: they crashed.
    pub(crate) fn without_result(&self) -> u64 {
        self.started.saturating_sub(self.finished)
    }
}

/// `N passed, N failed, N skipped`, and nothing else.
pub(crate) fn counts_in(line: &str) -> Option<Counts> {
    let mut parts = line.split(", ");
    let mut next = |word: &str| parts.next()?.strip_suffix(word)?.parse().ok();
    let counts = Counts {
        passed: next(" passed")?,
        failed: next(" failed")?,
        skipped: next(" skipped")?,
    };
    parts.next().is_none().then_some(counts)
}

/// The number that stands right before `word`.
fn before(text: &str, word: &str) -> u64 {
    let head = text.split_once(word).map_or("", |(head, _)| head);
    head.rsplit(' ')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// The name in `test NAME ... FAILED`.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// `unittests src/lib.rs (target/debug/deps/keywright_domain-0f1e` is `keywright_domain`.
fn crate_of(binary: &str) -> String {
    let file = binary.rsplit(['/', '(']).next().unwrap_or(binary);
    file.rsplit_once('-')
        .map_or(file, |(name, _)| name)
        .to_owned()
}

/// The line without colours.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((text, code)) = rest.split_once("\u{1b}[") {
        plain.push_str(text);
        rest = code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        rest = rest.get(1..).unwrap_or_default();
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CARGO: &str = "\
   Compiling keywright-domain v0.1.0
     \u{1b}[1m\u{1b}[32mRunning\u{1b}[0m unittests src/lib.rs (target/debug/deps/keywright_domain-0f1e)
running 3 tests
test scope::tests::joins ... ok
test key::tests::parses ... \u{1b}[31mFAILED\u{1b}[0m
test result: FAILED. 12 passed; 1 failed; 2 ignored; 0 measured; 4 filtered out; finished in 0.01s
     Running tests/contract.rs (target/debug/deps/contract-77aa)
test result: \u{1b}[32mok\u{1b}[0m. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.2s
   Doc-tests keywright_domain
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn cargo(text: &str) -> Seen {
        let mut seen = Seen::default();
        text.lines().for_each(|line| seen.cargo_line(line));
        seen
    }

    #[test]
    fn what_is_listed_is_counted() {
        let text = "server::a: test\nserver::b: test\nc: benchmark\n\n2 tests, 1 benchmark\n";
        assert_eq!(listed(text), 2);
    }

    #[test]
    fn cargo_is_added_up_over_test_programs() {
        let seen = cargo(CARGO);
        assert_eq!(
            seen.counts,
            Counts {
                passed: 18,
                failed: 1,
                skipped: 2
            }
        );
        assert_eq!(seen.failing, ["keywright_domain: key::tests::parses"]);
        assert_eq!(seen.without_result(), 0);
    }

    #[test]
    fn what_a_failing_test_said_is_repeated_without_its_backtrace() {
        let lines = "  Running tests/a.rs (target/debug/deps/a-1)\n\
            test one::a ... FAILED\n\
            test one::ab ... FAILED\n\
            failures:\n\
            ---- one::ab stdout ----\n\
            it began\n\
            Error: it is late\n\n\
            Caused by:\n    5 is not 4\n\n\
            Stack backtrace:\n   0: anyhow::error\n\
            ---- one::a stdout ----\n\
            thread 'one::a' panicked at a.rs:3:5:\nno\n\
            note: run with `RUST_BACKTRACE=1`\nmore\n\
            failures:\n    one::a\n    one::ab\n\
            test result: FAILED. 0 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n\
            after it\n";
        assert_eq!(
            cargo(lines).failing,
            [
                "a: one::a\n    thread 'one::a' panicked at a.rs:3:5:\n    no",
                "a: one::ab\n    Error: it is late\n    Caused by:\n    5 is not 4",
            ]
        );
        let long = "x".repeat(400) + &"\nx".repeat(40);
        let long = lines.replace("it is late", &long);
        let failing = &cargo(&long).failing[1];
        assert_eq!(failing.lines().count(), 1 + KEPT_LINES);
        assert_eq!(failing.lines().nth(1).map(str::len), Some(4 + KEPT_LETTERS));
    }

    #[test]
    fn a_test_that_says_that_it_saw_nothing_here_is_skipped() {
        let lines = "  Running tests/a.rs (target/debug/deps/a-1)\n\
            test a ... ok\n\
            skipped here: no network namespaces (unshare failed)\n\
            test b ... ok\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
              Running tests/b.rs (target/debug/deps/b-1)\n\
            test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let seen = cargo(lines);
        assert_eq!(seen.counts.to_string(), "4 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn a_test_program_without_result_has_crashed() {
        let seen = cargo("  Running tests/a.rs (target/debug/deps/a-1)\ntest b ... ok\n");
        assert_eq!(seen.without_result(), 1);
    }

    #[test]
    fn summaries_are_exact() {
        let expected = Counts {
            passed: 12,
            failed: 0,
            skipped: 3,
        };
        assert_eq!(counts_in("12 passed, 0 failed, 3 skipped"), Some(expected));
        assert_eq!(expected.to_string(), "12 passed, 0 failed, 3 skipped");
        for wrong in [
            "12 passed, 0 failed",
            "x passed, 0 failed, 3 skipped",
            "12 passed, 0 failed, 3 skipped, 1",
        ] {
            assert_eq!(counts_in(wrong), None, "{wrong}");
        }
        let mut seen = Seen::default();
        for line in [
            "FAIL  opens the menu",
            "\u{1b}[1m2 passed, 1 failed, 4 skipped\u{1b}[0m",
        ] {
            seen.browser_line(line, false);
        }
        assert_eq!(
            seen.counts,
            Counts {
                passed: 2,
                failed: 1,
                skipped: 4
            }
        );
        assert_eq!(seen.failing, ["browser: opens the menu"]);
        let mut filtered = Seen::default();
        filtered.browser_line("0 passed, 0 failed, 40 skipped", true);
        assert!(filtered.counts == Counts::default() && filtered.has_result());
    }

    #[test]
    fn a_fuzz_target_is_one_test() {
        let mut seen = Seen::default();
        seen.fuzz_target("a", &Ok(()));
        seen.fuzz_target("b", &Err(anyhow::anyhow!("it crashed")));
        assert_eq!(seen.counts.to_string(), "1 passed, 1 failed, 0 skipped");
        assert_eq!(seen.failing, ["fuzz: b: it crashed"]);
    }

    #[test]
    fn vitest_counts_every_case() {
        let report = json!({ "testResults": [{ "assertionResults": [
            { "status": "passed", "fullName": "a" }, { "status": "failed", "fullName": "b c" },
            { "status": "skipped", "fullName": "d" }, { "status": "todo", "fullName": "e" } ] }] });
        let mut seen = Seen::default();
        seen.vitest_report(&report, false);
        assert_eq!(
            seen.counts,
            Counts {
                passed: 1,
                failed: 1,
                skipped: 2
            }
        );
        assert_eq!(seen.failing, ["ui: b c"]);
        let mut filtered = Seen::default();
        filtered.vitest_report(&report, true);
        assert_eq!(
            filtered.counts,
            Counts {
                passed: 1,
                failed: 1,
                skipped: 0
            }
        );
    }
}
