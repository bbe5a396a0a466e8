//! Lines of a file with the hashes of keys that another system made: NDJSON or CSV, read within
//! bounds. Nothing of a refused line is repeated except the names of fields that are known: what
//! stands in a wrong column may be a key. (The fuzzer compiles this file by itself: it knows the
//! domain and no other room.)

use keywright_domain::api_keys::{
    Environment, ForeignHash, Metadata, NetworkList, Note, Owner, Tags, find_keys,
};
use serde_json::Value;

/// Largest file, in bytes.
pub const MAX_IMPORT_BYTES: usize = 32 * 1024 * 1024;
/// Most records of one file.
pub(super) const MAX_IMPORT_RECORDS: u64 = 50_000;
/// Longest record, in bytes.
pub(super) const MAX_RECORD_BYTES: usize = 16 * 1024;
/// A number of milliseconds before this one (March 1973) is one of seconds.
const LEAST_MILLISECONDS: i64 = 100_000_000_000;
const METADATA_COLUMN: &str = "metadata.";
const FIELDS: [&str; 12] = [
    "name",
    "hash",
    "last_four",
    "prefix",
    "scopes",
    "owner",
    "environment",
    "expires_at",
    "not_before",
    "tags",
    "note",
    "networks",
];

/// How the file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportFormat {
    /// One JSON object a line.
    NdJson,
    /// RFC 4180 with a line of names; lists are words between blanks, metadata are columns
    /// `metadata.<name>`.
    Csv,
}

/// Why a file is not read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Larger than [`MAX_IMPORT_BYTES`].
    #[error("the file is larger than 32 MiB; split it")]
    TooLarge,
    /// More than [`MAX_IMPORT_RECORDS`] records.
    #[error("the file has more than {MAX_IMPORT_RECORDS} records; split it")]
    TooMany,
    /// Not text.
    #[error("the file is not UTF-8 text")]
    NotText,
    /// The first line of a CSV file does not name the columns.
    #[error(
        "the first line names the columns; column {0} is not known or is there twice. Known are: name, hash, last_four, prefix, scopes, owner, environment, expires_at, not_before, tags, note, networks and metadata.<name>"
    )]
    Column(usize),
    /// A column that every record needs is missing.
    #[error("the column “{0}” is missing")]
    ColumnMissing(&'static str),
}

impl ImportError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge | Self::TooMany => "import_too_large",
            Self::NotText | Self::Column(_) | Self::ColumnMissing(_) => "import_malformed",
        }
    }
}

/// Why a line is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LineProblem {
    /// Stable.
    pub(super) code: &'static str,
    /// In plain words; never a piece of the line.
    pub(super) message: String,
}

impl LineProblem {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    fn malformed(message: impl Into<String>) -> Self {
        Self::new("line_malformed", message)
    }
}

/// What a line says.
#[derive(Clone, Debug)]
pub(super) struct ImportRecord {
    /// The key's name.
    pub(super) name: String,
    /// The hash.
    pub(super) hash: ForeignHash,
    /// Last four characters of the key, where the other system kept them.
    pub(super) last_four: Option<String>,
    /// What it begins with, where it is to be shown with another prefix than the others.
    pub(super) prefix: Option<String>,
    /// What it may do.
    pub(super) scopes: Vec<String>,
    /// Who it belongs to.
    pub(super) owner: Option<Owner>,
    /// Where it may be used.
    pub(super) environment: Option<Environment>,
    /// When it ends (Unix ms).
    pub(super) expires_at: Option<i64>,
    /// From when it verifies (Unix ms).
    pub(super) not_before: Option<i64>,
    /// For finding it.
    pub(super) tags: Tags,
    /// For people.
    pub(super) note: Note,
    /// For other programs.
    pub(super) metadata: Metadata,
    /// Where it may be used from.
    pub(super) networks: NetworkList,
}

/// A record with the line it begins on, from 1.
#[derive(Clone, Debug)]
pub(super) struct ImportLine {
    /// The line.
    pub(super) line: u64,
    /// What it says, or why it is not taken.
    pub(super) record: Result<ImportRecord, LineProblem>,
}

/// Reads a whole file.
///
/// # Errors
/// [`ImportError`]; what is wrong with single lines is told by line.
pub(super) fn read(format: ImportFormat, bytes: &[u8]) -> Result<Vec<ImportLine>, ImportError> {
    if bytes.len() > MAX_IMPORT_BYTES {
        return Err(ImportError::TooLarge);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| ImportError::NotText)?;
    let mut lines = Lines(Vec::new());
    match format {
        ImportFormat::NdJson => read_json(text, &mut lines)?,
        ImportFormat::Csv => read_csv(text, &mut lines)?,
    }
    Ok(lines.0)
}

struct Lines(Vec<ImportLine>);

impl Lines {
    fn push(
        &mut self,
        line: u64,
        record: Result<ImportRecord, LineProblem>,
    ) -> Result<(), ImportError> {
        if self.0.len() as u64 >= MAX_IMPORT_RECORDS {
            return Err(ImportError::TooMany);
        }
        self.0.push(ImportLine { line, record });
        Ok(())
    }
}

fn too_long() -> LineProblem {
    LineProblem::new("line_too_long", "a record has at most 16 KiB")
}

fn read_json(text: &str, lines: &mut Lines) -> Result<(), ImportError> {
    for (line, text) in (1_u64..).zip(text.split('\n')) {
        if text.trim_ascii().is_empty() {
            continue;
        }
        let record = if text.len() > MAX_RECORD_BYTES {
            Err(too_long())
        } else {
            json_fields(text).and_then(Fields::into_record)
        };
        lines.push(line, record)?;
    }
    Ok(())
}

fn json_fields(text: &str) -> Result<Fields, LineProblem> {
    // The library's own words may quote the text.
    let object: serde_json::Map<String, Value> = serde_json::from_str(text)
        .map_err(|_| LineProblem::malformed("this is not a JSON object on one line"))?;
    let mut fields = Fields::default();
    for (position, (name, value)) in (1_usize..).zip(object) {
        if name == "metadata" {
            fields.metadata = json_metadata(value)?;
            continue;
        }
        let Some(name) = FIELDS.into_iter().find(|known| *known == name) else {
            return Err(LineProblem::malformed(format!(
                "field {position} (by name) is not known. Known are: {}, metadata",
                FIELDS.join(", ")
            )));
        };
        let value = match value {
            Value::Null => continue,
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Array(parts) => {
                let words: Option<Vec<_>> = parts.iter().map(Value::as_str).collect();
                let words = words.filter(|words| words.iter().all(|word| !has_blank(word)));
                words
                    .ok_or_else(|| {
                        LineProblem::malformed(format!("“{name}” is a list of single words"))
                    })?
                    .join(" ")
            }
            Value::Bool(_) | Value::Object(_) => {
                return Err(LineProblem::malformed(format!(
                    "“{name}” is a text, a number or a list of texts"
                )));
            }
        };
        fields.set(name, value);
    }
    Ok(fields)
}

fn json_metadata(value: Value) -> Result<Vec<(String, String)>, LineProblem> {
    let malformed =
        || LineProblem::malformed("“metadata” is an object whose values are texts or numbers");
    let pairs = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Object(pairs) => pairs,
        _ => return Err(malformed()),
    };
    pairs
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(text) => Ok((name, text)),
            Value::Number(number) => Ok((name, number.to_string())),
            _ => Err(malformed()),
        })
        .collect()
}

/// A column: a known field or a name of metadata.
enum Column {
    Field(&'static str),
    Metadata(String),
}

fn read_csv(text: &str, lines: &mut Lines) -> Result<(), ImportError> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(text.as_bytes());
    let headers = reader.headers().map_err(|_| ImportError::NotText)?.clone();
    let mut columns: Vec<Column> = Vec::with_capacity(headers.len());
    for (position, name) in (1_usize..).zip(&headers) {
        let name = name.trim_ascii();
        let column = match name.strip_prefix(METADATA_COLUMN) {
            Some(name) => Column::Metadata(name.to_owned()),
            None => {
                let known = FIELDS.into_iter().find(|known| *known == name);
                Column::Field(known.ok_or(ImportError::Column(position))?)
            }
        };
        let is_same = |other: &Column| match (other, &column) {
            (Column::Field(one), Column::Field(other)) => one == other,
            (Column::Metadata(one), Column::Metadata(other)) => one == other,
            _ => false,
        };
        if columns.iter().any(is_same) {
            return Err(ImportError::Column(position));
        }
        columns.push(column);
    }
    for needed in ["name", "hash"] {
        let is_needed = |column: &Column| matches!(column, Column::Field(name) if *name == needed);
        if !columns.iter().any(is_needed) {
            return Err(ImportError::ColumnMissing(needed));
        }
    }
    let mut row = csv::StringRecord::new();
    let (mut line, mut counted) = (1_u64, 0);
    while reader
        .read_record(&mut row)
        .map_err(|_| ImportError::NotText)?
    {
        // The reader's own count is one behind after `\r\n` and after empty lines.
        let start = row.position().map_or(0, csv::Position::byte);
        let start = usize::try_from(start).unwrap_or(text.len());
        let rest = text.as_bytes().get(start..).unwrap_or_default();
        let ends = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        let start = start + ends.count();
        let passed = text.as_bytes().get(counted..start).unwrap_or_default();
        line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        counted = start;
        let record = if row.as_slice().len() > MAX_RECORD_BYTES {
            Err(too_long())
        } else if row.len() != columns.len() {
            Err(LineProblem::malformed(format!(
                "this record has {} columns and the first line names {}",
                row.len(),
                columns.len()
            )))
        } else {
            csv_fields(&columns, &row).into_record()
        };
        lines.push(line, record)?;
    }
    Ok(())
}

fn csv_fields(columns: &[Column], row: &csv::StringRecord) -> Fields {
    let mut fields = Fields::default();
    for (column, value) in columns.iter().zip(row) {
        match column {
            _ if value.trim_ascii().is_empty() => {}
            Column::Field(name) => fields.set(name, value.to_owned()),
            Column::Metadata(name) => fields.metadata.push((name.clone(), value.to_owned())),
        }
    }
    fields
}

/// The texts of one record.
#[derive(Default)]
struct Fields {
    texts: Vec<(&'static str, String)>,
    metadata: Vec<(String, String)>,
}

impl Fields {
    fn set(&mut self, name: &'static str, text: String) {
        self.texts.push((name, text));
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let at = self.texts.iter().position(|(known, _)| *known == name)?;
        let text = self.texts.swap_remove(at).1;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn words(&mut self, name: &str) -> Vec<String> {
        let text = self.take(name).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn into_record(mut self) -> Result<ImportRecord, LineProblem> {
        self.refuse_keys()?;
        let hash = self
            .take("hash")
            .ok_or_else(|| LineProblem::malformed("“hash” is missing"))?;
        let hash = ForeignHash::parse(&hash)
            .map_err(|refused| LineProblem::new(refused.code(), refused.to_string()))?;
        let name = self
            .take("name")
            .ok_or_else(|| LineProblem::malformed("“name” is missing"))?;
        let last_four = self.take("last_four");
        let is_plain = |text: &String| {
            text.chars().count() == 4 && text.chars().all(|letter| letter.is_ascii_graphic())
        };
        if !last_four.as_ref().is_none_or(is_plain) {
            return Err(LineProblem::malformed(
                "“last_four” is the last four characters of the key",
            ));
        }
        let (expires_at, not_before) = (self.time("expires_at")?, self.time("not_before")?);
        let owner = self.take("owner").map(|text| Owner::parse(&text));
        let owner = owner
            .transpose()
            .map_err(|error| LineProblem::new(error.code(), error.to_string()))?;
        let environment = self
            .take("environment")
            .map(|text| Environment::new(&text))
            .transpose()
            .map_err(|error| LineProblem::new(error.code(), error.to_string()))?;
        // The errors of these four name what they refuse.
        let tags = Tags::new(self.words("tags").iter().map(String::as_str)).map_err(|_| {
            LineProblem::new(
                "invalid_tag",
                "“tags” are at most 32 words of 1 to 32 small letters, digits, “.”, “_”, “:”, “-”",
            )
        })?;
        let networks = NetworkList::new(self.words("networks").iter().map(String::as_str));
        let networks = networks.map_err(|_| {
            LineProblem::new(
                "invalid_network",
                "“networks” are written 192.0.2.0/24, 2001:db8::/48 or one address each",
            )
        })?;
        let note = Note::new(&self.take("note").unwrap_or_default())
            .map_err(|error| LineProblem::new("invalid_note", error.to_string()))?;
        let metadata = Metadata::new(std::mem::take(&mut self.metadata)).map_err(|_| {
            LineProblem::new(
                "invalid_metadata",
                "“metadata” are at most 50 pairs and 8 KiB: names of 1 to 40 letters, digits, “_”, “.”, “-”, a letter first; values of at most 500 characters",
            )
        })?;
        Ok(ImportRecord {
            name,
            hash,
            last_four,
            prefix: self.take("prefix"),
            scopes: self.words("scopes"),
            owner,
            environment,
            expires_at,
            not_before,
            tags,
            note,
            metadata,
            networks,
        })
    }

    /// A key of ours in any field: this file is a leak of its own. The hash says so itself.
    fn refuse_keys(&self) -> Result<(), LineProblem> {
        let texts = self.texts.iter().filter(|(name, _)| *name != "hash");
        let texts = texts.map(|(_, text)| text);
        let pairs = self.metadata.iter().flat_map(|(name, text)| [name, text]);
        if texts
            .chain(pairs)
            .any(|text| find_keys(text).next().is_some())
        {
            return Err(LineProblem::new(
                "key_in_import",
                "a key of this program stands in this record, in plain text. Never hand over keys; rotate it now",
            ));
        }
        Ok(())
    }

    fn time(&mut self, name: &str) -> Result<Option<i64>, LineProblem> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        let problem =
            |message: &str| LineProblem::new("invalid_time", format!("“{name}” {message}"));
        if let Ok(number) = text.parse::<i64>() {
            if number < LEAST_MILLISECONDS {
                return Err(problem(
                    "counts seconds, it seems; it is written in Unix milliseconds or as 2027-01-31T00:00:00Z",
                ));
            }
            return Ok(Some(number));
        }
        text.parse::<jiff::Timestamp>()
            .map(|time| Some(time.as_millisecond()))
            .map_err(|_| problem("is written in Unix milliseconds or as 2027-01-31T00:00:00Z"))
    }
}

fn has_blank(text: &str) -> bool {
    text.chars().any(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn problem(format: ImportFormat, text: &str) -> String {
        let lines = read(format, text.as_bytes()).expect("the file is read");
        let line = lines.into_iter().next().expect("a line");
        let problem = line.record.expect_err("refused");
        format!("{} {}", problem.code, problem.message)
    }

    #[test]
    fn both_formats_say_the_same() {
        let json = format!(
            "\n{{\"name\":\"Billing\",\"hash\":\"{HASH}\",\"scopes\":[\"keys:read\",\"users:read\"],\
             \"owner\":\"service:ci\",\"environment\":\"test\",\"expires_at\":\"2027-06-01T00:00:00Z\",\
             \"tags\":\"a b\",\"metadata\":{{\"row\":7}},\"last_four\":\"x1-y\",\"note\":null}}\r\n"
        );
        let csv = format!(
            "name,hash,scopes,owner,environment,expires_at,tags,metadata.row,last_four,note\r\n\
             Billing,{HASH},keys:read users:read,service:ci,test,1811808000000,a b,7,x1-y,\r\n"
        );
        for (format, text, line) in [(ImportFormat::NdJson, json, 2), (ImportFormat::Csv, csv, 2)] {
            let lines = read(format, text.as_bytes()).expect("the file is read");
            assert_eq!((lines.len(), lines[0].line), (1, line));
            let record = lines[0].record.as_ref().expect("taken");
            assert_eq!(record.name, "Billing");
            assert_eq!(record.scopes, ["keys:read", "users:read"]);
            assert_eq!(
                record.owner.as_ref().map(Owner::to_text).as_deref(),
                Some("service:ci")
            );
            assert_eq!(record.environment, Some(Environment::TEST));
            assert_eq!(record.expires_at, Some(1_811_808_000_000));
            assert_eq!(record.tags.as_slice(), ["a", "b"]);
            assert_eq!(record.metadata.as_map()["row"], "7");
            assert_eq!(record.last_four.as_deref(), Some("x1-y"));
        }
    }

    #[test]
    fn records_of_a_table_are_told_by_the_line_they_begin_on() {
        let text = "\r\nname,hash,note\r\n\r\na,1,\"two\r\nlines\"\r\nb,1,\n\nc,1,\n";
        let lines = read(ImportFormat::Csv, text.as_bytes()).expect("the file is read");
        let lines: Vec<_> = lines.iter().map(|line| line.line).collect();
        assert_eq!(lines, [4, 6, 8]);
    }

    #[test]
    fn what_is_refused_is_told_without_repeating_it() {
        let refused = [
            (
                r#"{"name":"a","hash":"hunter2hunter2"}"#,
                "hash_not_importable",
            ),
            (r#"{"name":"a","hunter2hunter2":"x"}"#, "line_malformed"),
            (r#"{"name":"a","hash":"hunter2hunter2""#, "line_malformed"),
            (r#"{"name":["a hunter2hunter2"]}"#, "line_malformed"),
            (
                r#"{"name":"a","expires_at":"hunter2hunter2"}"#,
                "line_malformed",
            ),
        ];
        for (text, code) in refused {
            let problem = problem(ImportFormat::NdJson, text);
            assert!(problem.starts_with(code), "{problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        for field in [
            "tags",
            "networks",
            "expires_at",
            "owner",
            "environment",
            "last_four",
        ] {
            let text =
                format!("{{\"name\":\"a\",\"hash\":\"{HASH}\",\"{field}\":\"HUNTER2%HUNTER2\"}}");
            let problem = problem(ImportFormat::NdJson, &text);
            assert!(!problem.contains("HUNTER2"), "{problem}");
        }
        let bcrypt = "$2b$12$C6UzMDM.H6dfI/f/IKcEeO3H1yX0yZ0n8oCk3v0o1l2m3n4o5p6q7";
        let problem = problem(ImportFormat::Csv, &format!("name,hash\na,{bcrypt}\n"));
        assert!(
            problem.contains("bcrypt") && !problem.contains("C6Uz"),
            "{problem}"
        );
    }

    #[test]
    fn a_key_of_ours_in_any_field_is_a_finding() {
        let prefix = keywright_domain::api_keys::Prefix::new("sk_live").expect("a prefix");
        let key = keywright_domain::api_keys::PlainKey::generate(&prefix, &mut rand::rng());
        let key = key.text().expose();
        for text in [
            format!("{{\"name\":\"{key}\",\"hash\":\"{HASH}\"}}"),
            format!("{{\"name\":\"a\",\"note\":\"was {key}\",\"hash\":\"{HASH}\"}}"),
            format!("{{\"name\":\"a\",\"metadata\":{{\"old\":\"{key}\"}},\"hash\":\"{HASH}\"}}"),
        ] {
            let problem = problem(ImportFormat::NdJson, &text);
            assert!(problem.starts_with("key_in_import"), "{problem}");
            assert!(!problem.contains(key), "{problem}");
        }
    }

    #[test]
    fn times_in_seconds_are_a_slip() {
        let text = format!("{{\"name\":\"a\",\"hash\":\"{HASH}\",\"expires_at\":1811808000}}");
        assert!(problem(ImportFormat::NdJson, &text).contains("seconds"));
    }

    #[test]
    fn files_and_lines_are_bounded() {
        let csv = |text: &str| read(ImportFormat::Csv, text.as_bytes()).map(|lines| lines.len());
        assert_eq!(csv("name,hash,secret\n"), Err(ImportError::Column(3)));
        assert_eq!(csv("name,hash,name\n"), Err(ImportError::Column(3)));
        assert_eq!(csv("name,tags\n"), Err(ImportError::ColumnMissing("hash")));
        assert_eq!(
            read(ImportFormat::Csv, b"name,hash\n\xff,1\n").err(),
            Some(ImportError::NotText)
        );
        let long = format!("{{\"name\":\"{}\"}}", "a".repeat(MAX_RECORD_BYTES));
        assert!(problem(ImportFormat::NdJson, &long).starts_with("line_too_long"));
        let long = format!("name,hash\n\"{}\",1\n", "a\n".repeat(MAX_RECORD_BYTES));
        assert!(problem(ImportFormat::Csv, &long).starts_with("line_too_long"));
        assert!(problem(ImportFormat::Csv, "name,hash\na\n").contains("1 columns"));
        let many = "1\n".repeat(usize::try_from(MAX_IMPORT_RECORDS).expect("fits") + 1);
        let read_many = read(ImportFormat::NdJson, many.as_bytes());
        assert_eq!(read_many.err(), Some(ImportError::TooMany));
        let large = vec![b' '; MAX_IMPORT_BYTES + 1];
        assert_eq!(
            read(ImportFormat::NdJson, &large).err(),
            Some(ImportError::TooLarge)
        );
    }
}
