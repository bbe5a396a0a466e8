//! Entity tags and the conditions that name them (RFC 9110 §8.8.3, §13): who changes something may say
//! what they saw, and is refused if it is not so any more. The state is looked at in the transaction
//! that changes it: of two who saw the same, one is refused.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywright_registry::{Conditions, LocalRegistry, RegistryError, Seen, Thing};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::problem::Problem;
use crate::server::App;
use crate::sessions::api::private;

/// Tags of one header are at most so many: it is compared with all of them.
const MOST: usize = 50;

/// The conditions of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IfSeen {
    /// `If-Match`.
    matches: Option<Tags>,
    /// `If-None-Match`.
    none: Option<Tags>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    /// `*`
    Any,
    /// Strong ones in their quotation marks, weak ones with `W/` before.
    These(Vec<String>),
}

/// The strong tag of what is shown: another one with every difference of it.
pub(crate) fn tag_of(view: &impl Serialize) -> String {
    // What cannot be written is shown to nobody, and has the tag of nothing.
    let text = serde_json::to_vec(view).unwrap_or_default();
    let digest = Sha256::digest(text);
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest[..16]))
}

/// An answer with the tag of the thing that it is about.
pub(crate) fn tagged(mut response: Response, tag: &str) -> Response {
    if let Ok(value) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// An answer that shows a thing, with its tag.
pub(crate) fn shown(view: &impl Serialize) -> Response {
    tagged(private(view), &tag_of(view))
}

impl IfSeen {
    /// An answer to GET: 304 where the caller has it already.
    ///
    /// # Errors
    /// 412 `precondition_failed` for an `If-Match` that names something else.
    pub(crate) fn show(&self, view: &impl Serialize) -> Result<Response, Problem> {
        let tag = tag_of(view);
        if !self.is_matched(Some(&tag)) {
            return Err(RegistryError::Precondition.into());
        }
        let mut response = shown(view);
        if self.is_known(Some(&tag)) {
            response.headers_mut().remove(header::CONTENT_TYPE);
            let (parts, _) = response.into_parts();
            return Ok((StatusCode::NOT_MODIFIED, parts.headers).into_response());
        }
        Ok(response)
    }

    /// The registry for the one write that changes a thing, if it stands as the caller says. `tag`
    /// is the thing's as it is shown.
    pub(crate) fn registry(
        &self,
        app: &App,
        thing: Thing,
        tag: impl Fn(&Seen) -> Option<String> + Send + Sync + 'static,
    ) -> LocalRegistry {
        if *self == Self::default() {
            return app.registry.clone();
        }
        let asked = self.clone();
        let when = Conditions::default().when(thing, move |seen| {
            let tag = seen.map(&tag);
            match tag {
                // A thing of another kind was read: nothing is known of it.
                Some(None) => false,
                Some(tag) => asked.holds(tag.as_deref()),
                None => asked.holds(None),
            }
        });
        app.registry.under(when)
    }

    /// RFC 9110 §13.2.2, for what changes something.
    fn holds(&self, current: Option<&str>) -> bool {
        self.is_matched(current) && !self.is_known(current)
    }

    /// `If-Match` holds: weak tags match nothing (§13.1.1).
    fn is_matched(&self, current: Option<&str>) -> bool {
        match (&self.matches, current) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(Tags::Any), Some(_)) => true,
            (Some(Tags::These(tags)), Some(current)) => tags.iter().any(|tag| tag == current),
        }
    }

    /// `If-None-Match` does not hold: weak tags match too (§13.1.2).
    fn is_known(&self, current: Option<&str>) -> bool {
        let strong = |tag: &String| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        match (&self.none, current) {
            (None, _) | (_, None) => false,
            (Some(Tags::Any), Some(_)) => true,
            (Some(Tags::These(tags)), Some(current)) => {
                tags.iter().any(|tag| strong(tag) == current)
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfSeen {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self {
            matches: read(&parts.headers, header::IF_MATCH)?,
            none: read(&parts.headers, header::IF_NONE_MATCH)?,
        })
    }
}

fn read(headers: &HeaderMap, name: HeaderName) -> Result<Option<Tags>, Problem> {
    let refused = || {
        let detail = format!("{name} is * or a list of ETags in quotation marks");
        Problem::bad_request("invalid_etag", detail)
    };
    let mut all = Vec::new();
    let mut any = false;
    for value in headers.get_all(&name) {
        let text = value.to_str().map_err(|_| refused())?.trim();
        if text == "*" {
            any = true;
        } else {
            all.extend(tags(text).ok_or_else(refused)?);
        }
    }
    match (any, all.is_empty()) {
        (true, true) => Ok(Some(Tags::Any)),
        (false, true) if !headers.contains_key(&name) => Ok(None),
        (false, false) if all.len() <= MOST => Ok(Some(Tags::These(all))),
        _ => Err(refused()),
    }
}

/// `entity-tag` of §8.8.3, between commas. There may be commas inside of one.
fn tags(text: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(found);
        }
        let start = if rest.starts_with("W/") { 2 } else { 0 };
        let inner = rest.get(start..)?.strip_prefix('"')?;
        let length = inner.find('"')?;
        if inner[..length].contains([' ', '\t']) {
            return None;
        }
        let (tag, after) = rest.split_at(start + length + 2);
        let after = after.trim_start_matches([' ', '\t']);
        if !after.is_empty() && !after.starts_with(',') {
            return None;
        }
        found.push(tag.to_owned());
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: HeaderName, values: &[&str]) -> Result<Option<Tags>, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_str(value).unwrap());
        }
        read(&headers, name)
    }

    fn these(list: &[&str]) -> Option<Tags> {
        Some(Tags::These(
            list.iter().map(|tag| (*tag).to_owned()).collect(),
        ))
    }

    #[test]
    fn lists_of_tags_are_read_as_rfc_9110_writes_them() {
        let name = || header::IF_MATCH;
        assert_eq!(asked(name(), &[]).unwrap(), None);
        assert_eq!(asked(name(), &["*"]).unwrap(), Some(Tags::Any));
        assert_eq!(asked(name(), &["\"a\""]).unwrap(), these(&["\"a\""]));
        let several = ["\"xyzzy\", W/\"r2d2,xx\" ,, \"\"", "\"c3\""];
        let read = these(&["\"xyzzy\"", "W/\"r2d2,xx\"", "\"\"", "\"c3\""]);
        assert_eq!(asked(name(), &several).unwrap(), read);
        for bad in [
            "",
            ",",
            "a",
            "\"a",
            "\"a\"b",
            "\"a\" \"b\"",
            "w/\"a\"",
            "\"a b\"",
            "*, \"a\"",
        ] {
            let error = asked(name(), &[bad]).expect_err(bad);
            assert_eq!(error.code, "invalid_etag", "{bad}");
        }
        assert!(asked(name(), &["*", "\"a\""]).is_err());
        assert!(asked(name(), &[&"\"a\",".repeat(MOST + 1)]).is_err());
    }

    #[test]
    fn weak_tags_match_for_reading_and_never_for_changing() {
        let with = |matches: &[&str], none: &[&str]| IfSeen {
            matches: these(matches).filter(|_| !matches.is_empty()),
            none: these(none).filter(|_| !none.is_empty()),
        };
        let (now, gone) = (Some("\"a\""), None);
        assert!(with(&["\"b\"", "\"a\""], &[]).holds(now));
        assert!(!with(&["W/\"a\""], &[]).holds(now));
        assert!(!with(&["\"a\""], &[]).holds(gone));
        assert!(with(&[], &["W/\"a\""]).is_known(now));
        assert!(!with(&[], &["\"a\""]).holds(now));
        assert!(with(&[], &["\"b\""]).holds(now));
        let any = Some(Tags::Any);
        let exists = IfSeen {
            matches: any.clone(),
            none: None,
        };
        let is_new = IfSeen {
            matches: None,
            none: any,
        };
        assert_eq!((exists.holds(now), exists.holds(gone)), (true, false));
        assert_eq!((is_new.holds(now), is_new.holds(gone)), (false, true));
    }
}
