//! What people and programs write on a key: tags, a note, metadata. None of it decides anything.

use std::collections::BTreeMap;

/// Most tags of one key.
pub const MAX_TAGS: usize = 32;
/// Longest note, in characters.
pub const MAX_NOTE_LENGTH: usize = 2000;
/// Most pairs of metadata.
pub const MAX_METADATA_PAIRS: usize = 50;
/// Most bytes of metadata, names and values together.
pub const MAX_METADATA_BYTES: usize = 8 * 1024;
const MAX_TAG_LENGTH: usize = 32;
const MAX_METADATA_NAME: usize = 40;
const MAX_METADATA_VALUE: usize = 500;

/// Tags: sorted, without duplicates, at most 32. Text: ` a b `, with a blank on both ends, so that
/// the pattern of [`Tags::like_pattern`] finds one; no tags, no text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<String>);

impl Tags {
    /// Checks tags: each 1 to 32 small letters, digits, `.`, `_`, `:`, `-`, a letter or digit first.
    ///
    /// # Errors
    /// [`TagError`].
    pub fn new<'a>(tags: impl IntoIterator<Item = &'a str>) -> Result<Self, TagError> {
        let mut list = Vec::new();
        for tag in tags {
            check_tag(tag)?;
            list.push(tag.to_owned());
            if list.len() > 2 * MAX_TAGS {
                return Err(TagError::TooMany);
            }
        }
        list.sort();
        list.dedup();
        if list.len() > MAX_TAGS {
            return Err(TagError::TooMany);
        }
        Ok(Self(list))
    }

    /// The tags, sorted.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// Reads tags as [`Tags::to_text`] writes them.
    ///
    /// # Errors
    /// [`TagError`].
    pub fn parse(text: &str) -> Result<Self, TagError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let inner = text
            .strip_prefix(' ')
            .and_then(|rest| rest.strip_suffix(' '))
            .ok_or(TagError::Text)?;
        let tags = Self::new(inner.split(' '))?;
        if tags.to_text() == text {
            Ok(tags)
        } else {
            Err(TagError::Text)
        }
    }

    /// The text to store.
    #[must_use]
    pub fn to_text(&self) -> String {
        if self.0.is_empty() {
            String::new()
        } else {
            format!(" {} ", self.0.join(" "))
        }
    }

    /// The pattern for `LIKE $1 ESCAPE '\'` that finds the stored text of every key with this tag,
    /// and of no other: a `_` in the tag is escaped, because `LIKE` takes it for any character.
    ///
    /// # Errors
    /// [`TagError::Malformed`].
    pub fn like_pattern(tag: &str) -> Result<String, TagError> {
        check_tag(tag)?;
        Ok(format!("% {} %", tag.replace('_', "\\_")))
    }
}

fn check_tag(tag: &str) -> Result<(), TagError> {
    let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_rest = |byte: u8| is_first(byte) || matches!(byte, b'.' | b'_' | b':' | b'-');
    let well_formed = tag.len() <= MAX_TAG_LENGTH
        && tag.bytes().next().is_some_and(is_first)
        && tag.bytes().all(is_rest);
    if well_formed {
        Ok(())
    } else {
        Err(TagError::Malformed(tag.chars().take(60).collect()))
    }
}

/// Why tags are not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// The tag breaks its rule.
    #[error(
        "“{0}” is not a tag: write 1 to 32 small letters, digits, dots, colons, hyphens or underscores, a letter or digit first"
    )]
    Malformed(String),
    /// More than [`MAX_TAGS`].
    #[error("a key has at most {MAX_TAGS} tags")]
    TooMany,
    /// Not the stored text of tags.
    #[error("stored tags are sorted, with one blank before and after each")]
    Text,
}

/// What people should know of a key: at most 2,000 characters, line breaks but no other control
/// characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note(String);

impl Note {
    /// Checks a note. Line breaks of Windows become plain ones.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn new(text: &str) -> Result<Self, NoteError> {
        let text = text.replace("\r\n", "\n");
        if text.chars().count() > MAX_NOTE_LENGTH || text.contains(is_control) {
            return Err(NoteError);
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_control(letter: char) -> bool {
    letter.is_control() && letter != '\n'
}

/// A note is too long or holds control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a note has at most {MAX_NOTE_LENGTH} characters and no control characters")]
pub struct NoteError;

/// Names and values for other programs: at most 50 pairs and 8 KiB, sorted by name. Text: one
/// `name=value` a line; in a value, `\n` stands for a line break and `\\` for a backslash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// Checks metadata: names of 1 to 40 letters, digits, `_`, `.`, `-`, a letter first, each once;
    /// values of at most 500 characters, line breaks but no other control characters.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, MetadataError> {
        let mut map = BTreeMap::new();
        let mut bytes = 0;
        for (name, value) in pairs {
            check_metadata_name(&name)?;
            if value.chars().count() > MAX_METADATA_VALUE || value.contains(is_control) {
                return Err(MetadataError::Value(name));
            }
            bytes += name.len() + value.len();
            if bytes > MAX_METADATA_BYTES || map.len() == MAX_METADATA_PAIRS {
                return Err(MetadataError::TooMuch);
            }
            if map.contains_key(&name) {
                return Err(MetadataError::NameTwice(name));
            }
            map.insert(name, value);
        }
        Ok(Self(map))
    }

    /// The pairs, sorted by name.
    #[must_use]
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Reads metadata as [`Metadata::to_text`] writes it.
    ///
    /// # Errors
    /// [`MetadataError`].
    pub fn parse(text: &str) -> Result<Self, MetadataError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let mut pairs = Vec::new();
        for line in text.split('\n') {
            let (name, value) = line.split_once('=').ok_or(MetadataError::Text)?;
            pairs.push((name.to_owned(), unescape(value)?));
        }
        let metadata = Self::new(pairs)?;
        if metadata.to_text() == text {
            Ok(metadata)
        } else {
            Err(MetadataError::Text)
        }
    }

    /// The text to store.
    #[must_use]
    pub fn to_text(&self) -> String {
        let line = |(name, value): (&String, &String)| format!("{name}={}", escape(value));
        let lines: Vec<_> = self.0.iter().map(line).collect();
        lines.join("\n")
    }
}

fn check_metadata_name(name: &str) -> Result<(), MetadataError> {
    let is_rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let well_formed = name.len() <= MAX_METADATA_NAME
        && name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name.bytes().all(is_rest);
    if well_formed {
        Ok(())
    } else {
        Err(MetadataError::Name(name.chars().take(60).collect()))
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\n', "\\n")
}

fn unescape(value: &str) -> Result<String, MetadataError> {
    let mut text = String::with_capacity(value.len());
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => text.push('\n'),
                Some('\\') => text.push('\\'),
                _ => return Err(MetadataError::Text),
            },
            plain => text.push(plain),
        }
    }
    Ok(text)
}

/// Why metadata are not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The name breaks its rule.
    #[error(
        "“{0}” is not a name for metadata: write 1 to 40 letters, digits, dots, hyphens or underscores, a letter first"
    )]
    Name(String),
    /// The value of this name breaks its rule.
    #[error("the value of “{0}” has more than 500 characters, or control characters")]
    Value(String),
    /// One name twice.
    #[error("“{0}” is there twice")]
    NameTwice(String),
    /// Too many pairs, or too large together.
    #[error("a key has at most {MAX_METADATA_PAIRS} pairs of metadata and 8 KiB of them")]
    TooMuch,
    /// Not the stored text of metadata.
    #[error("stored metadata are lines of name=value, sorted by name")]
    Text,
}

#[cfg(test)]
mod tests;
