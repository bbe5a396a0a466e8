//! One variable in the text of an `.env` file. Everything but its value stays byte for byte as it
//! is: other lines, comments, quotes, line ends, even a missing one at the end. There is no standard
//! for such files; what is read here is what the common loaders agree on.

use std::ops::Range;

/// Whether a text can name a variable.
pub(super) fn is_variable(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next();
    text.len() <= 200
        && first.is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(is_name_byte)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The value that loaders take: of the last line that sets the variable, without its quotes.
pub(super) fn find<'a>(text: &'a [u8], variable: &str) -> Option<&'a [u8]> {
    last_of(text, variable).map(|value| &text[value])
}

/// The text with the variable set. Its last line is changed in place and keeps its quotes and its
/// comment; where there is none, one is added at the end. `value` holds no quotes or line breaks.
pub(super) fn set(text: &[u8], variable: &str, value: &str) -> Vec<u8> {
    let mut edited = Vec::with_capacity(text.len() + variable.len() + value.len() + 4);
    if let Some(old) = last_of(text, variable) {
        edited.extend_from_slice(&text[..old.start]);
        edited.extend_from_slice(value.as_bytes());
        // `NAME=#comment`: without a blank the comment would become part of the value.
        if text.get(old.end) == Some(&b'#') {
            edited.push(b' ');
        }
        edited.extend_from_slice(&text[old.end..]);
        return edited;
    }
    let first_end = text.iter().position(|byte| *byte == b'\n');
    let windows = first_end.is_some_and(|at| at > 0 && text[at - 1] == b'\r');
    let line_end: &[u8] = if windows { b"\r\n" } else { b"\n" };
    edited.extend_from_slice(text);
    let bare = text == BYTE_ORDER_MARK || text.is_empty();
    if !bare && !text.ends_with(b"\n") {
        edited.extend_from_slice(line_end);
    }
    edited.extend_from_slice(variable.as_bytes());
    edited.push(b'=');
    edited.extend_from_slice(value.as_bytes());
    edited.extend_from_slice(line_end);
    edited
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where the value of the variable's last assignment stands.
fn last_of(text: &[u8], variable: &str) -> Option<Range<usize>> {
    let mut found = None;
    let mut at = if text.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len()
    } else {
        0
    };
    while at < text.len() {
        match assignment(text, at) {
            Some((name, value, end)) => {
                if &text[name] == variable.as_bytes() {
                    found = Some(value);
                }
                at = next_line(text, end);
            }
            None => at = next_line(text, at),
        }
    }
    found
}

/// `[export] NAME = value`, beginning at a line: the name, the value without quotes, and where the
/// assignment ends. A quoted value may go on over several lines.
fn assignment(text: &[u8], line: usize) -> Option<(Range<usize>, Range<usize>, usize)> {
    let mut start = skip_blanks(text, line);
    if text[start..].starts_with(b"export") {
        let after = skip_blanks(text, start + 6);
        if after > start + 6 {
            start = after;
        }
    }
    let length = text[start..].iter().take_while(|byte| is_name_byte(**byte));
    let name = start..start + length.count();
    let equals = skip_blanks(text, name.end);
    if name.is_empty() || text.get(equals) != Some(&b'=') {
        return None;
    }
    let value = value(text, equals + 1);
    let end = value.end;
    Some((name, value, end))
}

fn value(text: &[u8], after_equals: usize) -> Range<usize> {
    let start = skip_blanks(text, after_equals);
    if let Some(quote @ (b'"' | b'\'' | b'`')) = text.get(start).copied()
        && let Some(end) = closing_quote(text, start + 1, quote)
    {
        return start + 1..end;
    }
    let line = start..line_end(text, start);
    let comment =
        |at: &usize| text[*at] == b'#' && (*at == start || matches!(text[*at - 1], b' ' | b'\t'));
    let end = line.clone().find(comment).unwrap_or(line.end);
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\t');
    let blanks = text[start..end].iter().rev().take_while(blank).count();
    if end - blanks == start && end < line.end {
        // Nothing but a comment: what is set stands right behind the equals sign.
        return after_equals..after_equals;
    }
    start..end - blanks
}

/// Where a quoted value ends, if nothing but a comment follows on its last line.
fn closing_quote(text: &[u8], start: usize, quote: u8) -> Option<usize> {
    let mut at = start;
    loop {
        match *text.get(at)? {
            b'\\' if quote == b'"' => at += 2,
            byte if byte == quote => break,
            _ => at += 1,
        }
    }
    let rest = skip_blanks(text, at + 1);
    let ends = rest == line_end(text, rest) || text[rest] == b'#';
    ends.then_some(at)
}

fn skip_blanks(text: &[u8], at: usize) -> usize {
    let at = at.min(text.len());
    let blanks = text[at..]
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'));
    at + blanks.count()
}

/// Where the line ends, its line break left out.
fn line_end(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    match rest.iter().position(|byte| *byte == b'\n') {
        Some(length) if length > 0 && rest[length - 1] == b'\r' => at + length - 1,
        Some(length) => at + length,
        None => text.len(),
    }
}

fn next_line(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    let line_break = rest.iter().position(|byte| *byte == b'\n');
    line_break.map_or(text.len(), |length| at + length + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edited(text: &str) -> String {
        String::from_utf8(set(text.as_bytes(), "KEY", "new")).expect("text")
    }

    #[test]
    fn the_value_changes_and_nothing_else_of_its_line() {
        for (before, after) in [
            ("KEY=old\n", "KEY=new\n"),
            ("KEY=old", "KEY=new"),
            ("KEY=\n", "KEY=new\n"),
            ("KEY=old # why\n", "KEY=new # why\n"),
            ("KEY=ol#d\n", "KEY=new\n"),
            ("KEY= # why\n", "KEY=new # why\n"),
            ("KEY=# why\n", "KEY=new # why\n"),
            ("KEY=\"old\"\n", "KEY=\"new\"\n"),
            ("KEY='old' # it's\n", "KEY='new' # it's\n"),
            ("KEY=`old`\r\n", "KEY=`new`\r\n"),
            ("export  KEY = old\t\r\n", "export  KEY = new\t\r\n"),
            ("KEY=\"a\nOTHER=b\n\"\n", "KEY=\"new\"\n"),
            ("KEY=\"open\nOTHER=b\n", "KEY=new\nOTHER=b\n"),
            ("\u{feff}KEY=old\n", "\u{feff}KEY=new\n"),
        ] {
            assert_eq!(edited(before), after, "{before:?}");
        }
    }

    #[test]
    fn other_names_comments_and_texts_inside_quotes_are_not_it() {
        for text in [
            "#KEY=old\n",
            "MY_KEY=old\n",
            "KEYS=old\n",
            "KEY\n",
            "A='\nKEY=inside\n'\n",
            "exportKEY=old\n",
        ] {
            assert_eq!(edited(text), format!("{text}KEY=new\n"));
        }
    }

    #[test]
    fn the_last_of_several_lines_counts() {
        assert_eq!(
            edited("KEY=a\nB=1\nKEY=b\nC=2\n"),
            "KEY=a\nB=1\nKEY=new\nC=2\n"
        );
        assert_eq!(find(b"KEY=a\nKEY='b'\n", "KEY"), Some(&b"b"[..]));
    }

    #[test]
    fn a_new_line_is_added_in_the_style_of_the_file() {
        assert_eq!(edited(""), "KEY=new\n");
        assert_eq!(edited("A=1"), "A=1\nKEY=new\n");
        assert_eq!(edited("A=1\r\nB=2"), "A=1\r\nB=2\r\nKEY=new\r\n");
    }

    #[test]
    fn variables_have_the_form_that_every_loader_takes() {
        assert!(is_variable("_A1") && is_variable("SK_LIVE_KEY"));
        for wrong in ["", "1A", "A-B", "A B", "Ä", "A=", "A\n"] {
            assert!(!is_variable(wrong), "{wrong:?}");
        }
    }

    /// Lines that are whole: an assignment, a comment, a quoted text, a blank one.
    fn line() -> impl Strategy<Value = String> {
        prop_oneof![
            "[A-Z]{1,3}=[a-z0-9#]{0,6}( # [a-zA-Z'\"=]{0,8})?",
            "(export )?[A-Z]{1,3} ?= ?\"[a-z #'=]{0,6}\"",
            "[A-Z]{1,3}='[a-z #=]{0,4}(\r?\n)?[A-Z]{1,3}=[a-z]{0,3}'",
            "#[ a-zA-Z='\"]{0,10}",
            "[ \t]{0,3}",
            "[a-z ]{0,6}",
        ]
    }

    proptest! {
        #[test]
        fn every_other_line_stays_byte_for_byte(
            before in proptest::collection::vec((line(), prop_oneof![Just("\n"), Just("\r\n")]), 0..8),
            after in proptest::collection::vec((line(), prop_oneof![Just("\n"), Just("\r\n")]), 0..8),
            quote in prop_oneof![Just(""), Just("'"), Just("\"")],
        ) {
            let join = |lines: &[(String, &str)]| -> String {
                lines.iter().map(|(line, end)| format!("{line}{end}")).collect()
            };
            let (before, after) = (join(&before), join(&after));
            // A name that no other line can have.
            let text = format!("{before}THE_KEY={quote}old{quote} # kept\n{after}");
            let meant = format!("{before}THE_KEY={quote}sk_1{quote} # kept\n{after}");
            let edited = set(text.as_bytes(), "THE_KEY", "sk_1");
            prop_assert_eq!(String::from_utf8_lossy(&edited), meant.as_str());
            prop_assert_eq!(find(&edited, "THE_KEY"), Some(&b"sk_1"[..]));
        }

        #[test]
        fn whatever_the_file_holds_it_is_set_and_what_was_there_stays(
            text in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let edited = set(&text, "THE_KEY", "sk_1");
            prop_assert!(edited.starts_with(&text));
            prop_assert_eq!(find(&edited, "THE_KEY"), Some(&b"sk_1"[..]));
        }

        #[test]
        fn however_the_parts_meet_it_is_set(
            parts in proptest::collection::vec(
                prop_oneof!["KEY", "KEY=", "[=#'\"`\\\\ a]", "\r?\n", "export "],
                0..20,
            ),
        ) {
            let text = parts.concat();
            let edited = set(text.as_bytes(), "KEY", "new");
            prop_assert_eq!(find(&edited, "KEY"), Some(&b"new"[..]));
        }
    }
}
