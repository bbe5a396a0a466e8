//! The tables of requirements (`docs/requirements/`): every row of the sources that they are for is there
//! once, and every test that a row names is in the tree.
//!
//! A row is `| S0-01 | how it is met | tests |`. Tests stand between backticks: a Rust test by its path, of
//! which the last segment counts, or a test of the window by its file and title,
//! `ui/tests/unit/walls.test.ts: only the host speaks to Tauri`. What no test can show says `none:` and why.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

use crate::scenarios;

/// Where tests are.
const FOLDERS: [&str; 7] = [
    "crates",
    "fuzz",
    "src-tauri",
    "tests",
    "ui/src",
    "ui/tests",
    "xtask",
];

/// How many rows the sources have.
const SOURCES: [(&str, u16); 5] = [("S0", 58), ("S1", 36), ("S2", 50), ("S3", 77), ("S4", 39)];

/// A page, and the sources whose rows must all be on it.
struct Page {
    file: &'static str,
    sources: &'static [&'static str],
}

const PAGES: [Page; 2] = [
    Page {
        file: "docs/requirements/s0-s1.md",
        sources: &["S0", "S1"],
    },
    Page {
        file: "docs/requirements/s2-s4.md",
        sources: &["S2", "S4"],
    },
];

/// Fails with every row that is missing, and every test that is not there.
pub(crate) fn check() -> Result<()> {
    let tests = Tests::below(crate::root())?;
    let mut wrong = Vec::new();
    for page in &PAGES {
        match fs::read_to_string(crate::root().join(page.file)) {
            Ok(text) => wrong.extend(judge(page, &text, &tests)),
            Err(error) => wrong.push(format!("{}: {error}", page.file)),
        }
    }
    if !wrong.is_empty() {
        bail!("\n    {}", wrong.join("\n    "));
    }
    Ok(())
}

/// The tests of a tree.
struct Tests {
    root: PathBuf,
    rust: BTreeSet<String>,
}

impl Tests {
    fn below(root: PathBuf) -> Result<Self> {
        let mut rust = BTreeSet::new();
        for folder in FOLDERS {
            let folder = root.join(folder);
            if folder.is_dir() {
                scenarios::sources(&folder, &mut |name, text| {
                    if name.ends_with(".rs") {
                        let tests = scenarios::functions(text).into_iter();
                        rust.extend(tests.filter(|(_, is_test)| *is_test).map(|(name, _)| name));
                    }
                })?;
            }
        }
        Ok(Self { root, rust })
    }

    /// What is wrong with a name; none if the test is there.
    fn find(&self, name: &Name) -> Option<String> {
        match name {
            Name::Rust(path) => {
                let last = path.rsplit("::").next().unwrap_or(path);
                (!self.rust.contains(last)).then(|| format!("there is no test {path}"))
            }
            Name::Script { file, title } if title.is_empty() => {
                Some(format!("{file}: which test? Write `FILE: TITLE`"))
            }
            Name::Script { file, title } => {
                let Ok(text) = fs::read_to_string(self.root.join(Path::new(file))) else {
                    return Some(format!("there is no file {file}"));
                };
                (!has_title(&text, title)).then(|| format!("{file}: no test “{title}”"))
            }
        }
    }
}

/// A title is the first thing that is handed to `it`, `test` or `describe`.
fn has_title(text: &str, title: &str) -> bool {
    ['"', '\'', '`'].iter().any(|quote| {
        let wanted = format!("{quote}{title}{quote}");
        text.match_indices(&wanted).any(|(at, _)| {
            let before = text[..at].trim_end();
            ["it(", "test(", "describe("]
                .iter()
                .any(|call| before.ends_with(call))
        })
    })
}

/// A test as a row names it.
#[derive(Debug, PartialEq, Eq)]
enum Name {
    Rust(String),
    Script { file: String, title: String },
}

/// What is wrong with a page.
fn judge(page: &Page, text: &str, tests: &Tests) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| S")) {
        let cells = cells(line);
        let [id, how, named] = cells.as_slice() else {
            wrong.push(format!("{}: three cells are wanted: {line}", page.file));
            continue;
        };
        *seen.entry(id.clone()).or_default() += 1;
        let mut say = |what: String| wrong.push(format!("{} {id}: {what}", page.file));
        if !is_known(id) {
            say("no source has such a row".to_owned());
        }
        if how.is_empty() {
            say("it does not say how it is met".to_owned());
        }
        let names = names(named);
        if names.is_empty() && !named.starts_with("none: ") {
            say("it names no test, nor says why there is none".to_owned());
        }
        names
            .iter()
            .filter_map(|name| tests.find(name))
            .for_each(say);
    }
    for (id, count) in &seen {
        if *count > 1 {
            wrong.push(format!("{} {id}: {count} rows", page.file));
        }
    }
    for (source, rows) in SOURCES {
        if page.sources.contains(&source) {
            let ids = (1..=rows).map(|number| format!("{source}-{number:02}"));
            for id in ids.filter(|id| !seen.contains_key(id)) {
                wrong.push(format!("{} {id}: no row", page.file));
            }
        }
    }
    wrong
}

fn is_known(id: &str) -> bool {
    SOURCES.iter().any(|(source, rows)| {
        let number = id
            .strip_prefix(source)
            .and_then(|rest| rest.strip_prefix('-'));
        let number = number.filter(|number| number.len() == 2);
        number
            .and_then(|number| number.parse::<u16>().ok())
            .is_some_and(|number| (1..=*rows).contains(&number))
    })
}

/// The cells of a row. A bar in code, or after a backslash, parts none.
fn cells(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let (mut in_code, mut escaped) = (false, false);
    for letter in line.trim().trim_matches('|').chars() {
        in_code ^= letter == '`';
        if letter == '|' && !in_code && !escaped {
            cells.push(String::new());
        } else if let Some(cell) = cells.last_mut() {
            cell.push(letter);
        }
        escaped = letter == '\\';
    }
    cells.iter().map(|cell| cell.trim().to_owned()).collect()
}

/// The names between backticks. The title of a test of the window may also stand behind its file, between
/// quotation marks.
fn names(cell: &str) -> Vec<Name> {
    let parts: Vec<&str> = cell.split('`').collect();
    let mut names = Vec::new();
    for at in (1..parts.len()).step_by(2) {
        let span = parts[at].trim();
        let Some(end) = end_of_file(span) else {
            names.push(Name::Rust(span.to_owned()));
            continue;
        };
        let (file, title) = span.split_at(end);
        let mut title = title
            .trim_matches(|letter: char| letter == ':' || letter == '"' || letter.is_whitespace())
            .to_owned();
        if title.is_empty() {
            let behind = parts.get(at + 1).copied().unwrap_or_default();
            let quoted = behind.split(['"', '“', '”']).nth(1);
            title = quoted.unwrap_or_default().to_owned();
        }
        names.push(Name::Script {
            file: file.to_owned(),
            title,
        });
    }
    names
}

/// Where the name of a file of scripts ends, if a span begins with one.
fn end_of_file(span: &str) -> Option<usize> {
    let word = span.split([':', ' ']).next()?;
    let is_script = [".ts", ".mjs", ".js"]
        .iter()
        .any(|ending| word.ends_with(ending));
    is_script.then_some(word.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: Page = Page {
        file: "p.md",
        sources: &["S1"],
    };

    /// A tree with one test of each kind, and a function that is none.
    fn tree() -> Result<(tempfile::TempDir, Tests)> {
        let folder = tempfile::tempdir()?;
        let write = |name: &str, text: &str| -> Result<()> {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
            Ok(fs::write(path, text)?)
        };
        write(
            "crates/a/src/lib.rs",
            "fn helps() {}\n#[tokio::test(flavor = \"multi_thread\")]\nasync fn s1_yes() {}\n",
        )?;
        write(
            "ui/tests/unit/a.test.ts",
            "it(\"one, and | two\", () => {});\nconst words = \"no title\";\ntest(\n  'three', x)",
        )?;
        let tests = Tests::below(folder.path().to_owned())?;
        Ok((folder, tests))
    }

    /// All rows of S1, with another cell of tests in the first.
    fn page(first: &str) -> String {
        let good = "`keywright_a::tests::s1_yes`";
        let rows = (1..=36).map(|number| {
            let tests = if number == 1 { first } else { good };
            format!("| S1-{number:02} | so | {tests} |\n")
        });
        format!(
            "# Title\n\n| id | how it is met | tests |\n|---|---|---|\n{}",
            rows.collect::<String>()
        )
    }

    #[test]
    fn a_page_with_all_rows_and_tests_that_are_there_is_good() -> Result<()> {
        let (_folder, tests) = tree()?;
        for first in [
            "`s1_yes`",
            "`keywright_a::s1_yes`, `ui/tests/unit/a.test.ts: one, and | two`",
            "`ui/tests/unit/a.test.ts: three`",
            "`ui/tests/unit/a.test.ts` “three”, `s1_yes`",
            "none: nobody can see it",
        ] {
            assert_eq!(judge(&PAGE, &page(first), &tests), [""; 0], "{first}");
        }
        Ok(())
    }

    #[test]
    fn tests_that_are_not_there_are_named() -> Result<()> {
        let (_folder, tests) = tree()?;
        for (first, said) in [
            (
                "`keywright_a::s1_no`",
                "there is no test keywright_a::s1_no",
            ),
            // A function, and no test.
            ("`keywright_a::helps`", "there is no test"),
            ("`s1_yes` and `s1_yes_`", "there is no test s1_yes_"),
            ("`ui/tests/unit/b.test.ts: three`", "there is no file"),
            ("`ui/tests/unit/a.test.ts: four`", "no test “four”"),
            // A text of the file, and no title.
            ("`ui/tests/unit/a.test.ts: no title`", "no test “no title”"),
            ("`ui/tests/unit/a.test.ts`", "which test?"),
            ("", "names no test"),
            ("none", "names no test"),
        ] {
            let wrong = judge(&PAGE, &page(first), &tests);
            assert_eq!(wrong.len(), 1, "{first}: {wrong:?}");
            assert!(
                wrong[0].starts_with("p.md S1-01: ") && wrong[0].contains(said),
                "{wrong:?}"
            );
        }
        Ok(())
    }

    #[test]
    fn rows_are_there_once_and_say_something() -> Result<()> {
        let (_folder, tests) = tree()?;
        let good = page("`s1_yes`");
        let without = good.replace("| S1-07 | so | `keywright_a::tests::s1_yes` |\n", "");
        assert_eq!(judge(&PAGE, &without, &tests), ["p.md S1-07: no row"]);
        for (more, said) in [
            ("| S1-07 | so | `s1_yes` |\n", "p.md S1-07: 2 rows"),
            (
                "| S1-37 | so | `s1_yes` |\n",
                "p.md S1-37: no source has such a row",
            ),
            (
                "| S1-7 | so | `s1_yes` |\n",
                "p.md S1-7: no source has such a row",
            ),
            (
                "| S9-01 | so | `s1_yes` |\n",
                "p.md S9-01: no source has such a row",
            ),
            (
                "| S2-01 | | `s1_yes` |\n",
                "p.md S2-01: it does not say how it is met",
            ),
            (
                "| S2-01 | so |\n",
                "p.md: three cells are wanted: | S2-01 | so |",
            ),
        ] {
            assert_eq!(judge(&PAGE, &format!("{good}{more}"), &tests), [said]);
        }
        // A row of another source may stand there, and its tests are looked for too.
        let more = format!("{good}| S3-77 | so | `gone` |\n");
        assert_eq!(
            judge(&PAGE, &more, &tests),
            ["p.md S3-77: there is no test gone"]
        );
        Ok(())
    }

    #[test]
    fn bars_in_code_part_no_cells() {
        assert_eq!(
            cells("| a | `b|c` \\| d | `e`, `f` |"),
            ["a", "`b|c` \\| d", "`e`, `f`"]
        );
    }
}
