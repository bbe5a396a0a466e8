//! What a request needs of a key: scopes joined by `and`, `or` and parentheses.
//!
//! ```text
//! any   = all *( "or" all )          keywords in either case
//! all   = one *( "and" one )         blanks between words as you like
//! one   = scope / "(" any ")"        a scope without wildcards
//! ```
//!
//! There is no `not`: a requirement never rewards lacking a right.

use core::fmt;

use super::{Scope, ScopeError, ScopeSet};

/// Longest text of a requirement, as given and as shown.
pub const MAX_REQUIREMENT_LENGTH: usize = 1000;
/// Deepest nesting of parentheses.
pub const MAX_REQUIREMENT_DEPTH: usize = 16;
/// Most scopes in one requirement.
pub const MAX_REQUIREMENT_SCOPES: usize = 64;

/// A requirement over scopes. Its text reads back as itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScopeRequirement(Node);

/// Flat by construction: no `All` inside an `All`, no `Any` inside an `Any`, at least two parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    One(Scope),
    All(Vec<Node>),
    Any(Vec<Node>),
}

impl ScopeRequirement {
    /// Reads a requirement.
    ///
    /// # Errors
    /// [`RequirementError`] with the position of the first mistake.
    pub fn parse(text: &str) -> Result<Self, RequirementError> {
        if text.len() > MAX_REQUIREMENT_LENGTH {
            return Err(RequirementError::TooLong);
        }
        // Most are one scope, which needs no list. No keyword has a colon, and no scope a blank.
        if !text.contains([' ', '('])
            && let Ok(scope) = Scope::new(text)
            && !scope.is_wildcard()
        {
            return Ok(Self(Node::One(scope)));
        }
        let mut parser = Parser {
            text,
            position: 0,
            scopes: 0,
        };
        let node = parser.any(0)?;
        if let Some((position, word)) = parser.next() {
            return Err(RequirementError::Unexpected {
                position,
                word: shorten(word),
            });
        }
        let requirement = Self(node);
        if requirement.as_scope().is_some() {
            // It is as long as it was.
            return Ok(requirement);
        }
        // Blanks that were left out are put in when it is shown, and what is shown must read back.
        if requirement.to_string().len() > MAX_REQUIREMENT_LENGTH {
            return Err(RequirementError::TooLong);
        }
        Ok(requirement)
    }

    /// Whether what was granted is enough.
    #[must_use]
    pub fn is_met_by(&self, granted: &ScopeSet) -> bool {
        self.0.is_met(&|scope| granted.covers(scope))
    }

    /// A short list of scopes that, granted as well, would be enough: for the `scope` attribute of
    /// `WWW-Authenticate` (RFC 6750 §3). Empty if nothing is missing; no scope of it can be left
    /// out.
    #[must_use]
    pub fn missing(&self, granted: &ScopeSet) -> Vec<Scope> {
        let mut list = self.0.missing(granted);
        list.sort();
        list.dedup();
        // Branches were chosen one by one; a scope chosen in one may serve another as well.
        let mut index = 0;
        while index < list.len() {
            let others = || list.iter().enumerate().filter(|(at, _)| *at != index);
            let is_met_without = self.0.is_met(&|scope| {
                granted.covers(scope) || others().any(|(_, other)| other == scope)
            });
            if is_met_without {
                list.remove(index);
            } else {
                index += 1;
            }
        }
        list
    }

    /// Every scope that it names, in order of appearance, repeated where it repeats.
    #[must_use]
    pub fn scopes(&self) -> Vec<&Scope> {
        let mut found = Vec::new();
        self.0.collect_scopes(&mut found);
        found
    }

    /// The scope, where the requirement is one scope.
    #[must_use]
    pub fn as_scope(&self) -> Option<&Scope> {
        match &self.0 {
            Node::One(scope) => Some(scope),
            Node::All(_) | Node::Any(_) => None,
        }
    }
}

/// A need for one scope. A wildcard given here asks for the whole wildcard.
impl From<Scope> for ScopeRequirement {
    fn from(scope: Scope) -> Self {
        Self(Node::One(scope))
    }
}

// Every walk is bounded: nesting by MAX_REQUIREMENT_DEPTH, breadth by MAX_REQUIREMENT_SCOPES.
impl Node {
    fn is_met(&self, holds: &impl Fn(&Scope) -> bool) -> bool {
        match self {
            Self::One(scope) => holds(scope),
            Self::All(parts) => parts.iter().all(|part| part.is_met(holds)),
            Self::Any(parts) => parts.iter().any(|part| part.is_met(holds)),
        }
    }

    fn missing(&self, granted: &ScopeSet) -> Vec<Scope> {
        match self {
            Self::One(scope) if granted.covers(scope) => Vec::new(),
            Self::One(scope) => vec![scope.clone()],
            Self::All(parts) => parts
                .iter()
                .flat_map(|part| part.missing(granted))
                .collect(),
            Self::Any(parts) => {
                let lists = parts.iter().map(|part| part.missing(granted));
                lists.min_by_key(Vec::len).unwrap_or_default()
            }
        }
    }

    fn collect_scopes<'a>(&'a self, found: &mut Vec<&'a Scope>) {
        match self {
            Self::One(scope) => found.push(scope),
            Self::All(parts) | Self::Any(parts) => {
                for part in parts {
                    part.collect_scopes(found);
                }
            }
        }
    }
}

impl fmt::Display for ScopeRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, word) = match self {
            Self::One(scope) => return f.write_str(scope.as_str()),
            Self::All(parts) => (parts, " and "),
            Self::Any(parts) => (parts, " or "),
        };
        for (index, part) in parts.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { word })?;
            match part {
                Self::Any(_) => write!(f, "({part})")?,
                Self::One(_) | Self::All(_) => part.fmt(f)?,
            }
        }
        Ok(())
    }
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
    scopes: usize,
}

impl<'a> Parser<'a> {
    fn any(&mut self, depth: usize) -> Result<Node, RequirementError> {
        let mut parts = Vec::new();
        loop {
            match self.all(depth)? {
                Node::Any(inner) => parts.extend(inner),
                part => parts.push(part),
            }
            if !self.take_word("or") {
                return Ok(one_or(parts, Node::Any));
            }
        }
    }

    fn all(&mut self, depth: usize) -> Result<Node, RequirementError> {
        let mut parts = Vec::new();
        loop {
            match self.one(depth)? {
                Node::All(inner) => parts.extend(inner),
                part => parts.push(part),
            }
            if !self.take_word("and") {
                return Ok(one_or(parts, Node::All));
            }
        }
    }

    fn one(&mut self, depth: usize) -> Result<Node, RequirementError> {
        let Some((position, word)) = self.next() else {
            return Err(RequirementError::Ended {
                position: self.text.len(),
            });
        };
        if word == "(" {
            if depth == MAX_REQUIREMENT_DEPTH {
                return Err(RequirementError::TooDeep { position });
            }
            let inner = self.any(depth + 1)?;
            return match self.next() {
                Some((_, ")")) => Ok(inner),
                Some((position, word)) => Err(RequirementError::Unexpected {
                    position,
                    word: shorten(word),
                }),
                None => Err(RequirementError::Ended {
                    position: self.text.len(),
                }),
            };
        }
        if word.eq_ignore_ascii_case("not") {
            return Err(RequirementError::Not { position });
        }
        let is_keyword = word.eq_ignore_ascii_case("and") || word.eq_ignore_ascii_case("or");
        if is_keyword || word == ")" {
            return Err(RequirementError::Unexpected {
                position,
                word: shorten(word),
            });
        }
        let scope =
            Scope::new(word).map_err(|source| RequirementError::Scope { position, source })?;
        if scope.is_wildcard() {
            return Err(RequirementError::Wildcard { position });
        }
        self.scopes += 1;
        if self.scopes > MAX_REQUIREMENT_SCOPES {
            return Err(RequirementError::TooManyScopes { position });
        }
        Ok(Node::One(scope))
    }

    /// The next word or parenthesis with its position, without taking it.
    fn peek(&self) -> Option<(usize, &'a str)> {
        let rest = self.text.get(self.position..)?;
        let trimmed = rest.trim_ascii_start();
        let start = self.position + (rest.len() - trimmed.len());
        let first = trimmed.chars().next()?;
        let is_end = |letter: char| letter.is_ascii_whitespace() || matches!(letter, '(' | ')');
        let length = match first {
            '(' | ')' => 1,
            _ => trimmed.find(is_end).unwrap_or(trimmed.len()),
        };
        Some((start, trimmed.get(..length)?))
    }

    fn next(&mut self) -> Option<(usize, &'a str)> {
        let (start, word) = self.peek()?;
        self.position = start + word.len();
        Some((start, word))
    }

    fn take_word(&mut self, keyword: &str) -> bool {
        match self.peek() {
            Some((start, word)) if word.eq_ignore_ascii_case(keyword) => {
                self.position = start + word.len();
                true
            }
            _ => false,
        }
    }
}

fn one_or(mut parts: Vec<Node>, join: fn(Vec<Node>) -> Node) -> Node {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            join(parts)
        }
    }
}

fn shorten(word: &str) -> String {
    word.chars().take(90).collect()
}

/// Why a text is not a requirement. Positions count characters from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequirementError {
    /// Longer than [`MAX_REQUIREMENT_LENGTH`].
    #[error("a requirement has at most {MAX_REQUIREMENT_LENGTH} characters")]
    TooLong,
    /// Nested deeper than [`MAX_REQUIREMENT_DEPTH`].
    #[error("at {position}: at most {MAX_REQUIREMENT_DEPTH} parentheses may stand in one another")]
    TooDeep {
        /// Where.
        position: usize,
    },
    /// More than [`MAX_REQUIREMENT_SCOPES`] scopes.
    #[error("at {position}: a requirement names at most {MAX_REQUIREMENT_SCOPES} scopes")]
    TooManyScopes {
        /// Where.
        position: usize,
    },
    /// The text ended where a scope or a parenthesis belongs.
    #[error("at {position}: the text ends where a scope or a closing parenthesis belongs")]
    Ended {
        /// Where.
        position: usize,
    },
    /// A word where another one belongs.
    #[error("at {position}: “{word}” does not belong here")]
    Unexpected {
        /// Where.
        position: usize,
        /// What stands there, shortened.
        word: String,
    },
    /// `not` is not offered.
    #[error("at {position}: there is no “not”; a requirement never rewards lacking a right")]
    Not {
        /// Where.
        position: usize,
    },
    /// A wildcard cannot be required.
    #[error("at {position}: a required scope names one resource and one action, without *")]
    Wildcard {
        /// Where.
        position: usize,
    },
    /// Not a scope.
    #[error("at {position}: {source}")]
    Scope {
        /// Where.
        position: usize,
        /// What is wrong with it.
        source: ScopeError,
    },
}

impl RequirementError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "invalid_scope_requirement"
    }
}

#[cfg(test)]
mod tests;
