//! Parameters of lists: a page, times, and nothing that is not known.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::http::Params;
use crate::problem::Problem;

/// No page has more rows (AC-184).
pub(super) const LARGEST_PAGE: u32 = 100;
const USUAL_PAGE: u32 = 50;

/// The parameters of an address. Each list says which it knows: a filter with a typing error that
/// shows everything is worse than an error.
#[derive(Debug)]
pub(crate) struct Asked(Params);

/// A value that does not fit.
pub(super) fn invalid(name: &str, detail: impl std::fmt::Display) -> Problem {
    Problem::bad_request("invalid_parameter", format!("{name}: {detail}")).with("parameter", name)
}

impl Asked {
    /// Refuses parameters that are not among these.
    pub(super) fn known(&self, names: &[&str]) -> Result<(), Problem> {
        match self.0.iter().find(|(name, _)| !names.contains(name)) {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(40).collect();
                let detail = format!("there is no parameter {name}");
                Err(Problem::bad_request("unknown_parameter", detail))
            }
        }
    }

    /// A parameter; empty counts as absent.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)
    }

    /// The same, to be kept.
    pub(super) fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    /// A number or anything else that is read of text.
    pub(super) fn read<T: std::str::FromStr>(
        &self,
        name: &str,
        what: &str,
    ) -> Result<Option<T>, Problem> {
        let read = |text: &str| text.parse().map_err(|_| invalid(name, what));
        self.text(name).map(read).transpose()
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, name: &str, otherwise: bool) -> Result<bool, Problem> {
        Ok(self.read(name, "true or false")?.unwrap_or(otherwise))
    }

    /// How many rows.
    pub(super) fn limit(&self) -> Result<u32, Problem> {
        self.limit_or(USUAL_PAGE)
    }

    /// How many rows, where a list was longer before it had pages.
    pub(super) fn limit_or(&self, usual: u32) -> Result<u32, Problem> {
        let limit = self.read("limit", "1 to 100")?.unwrap_or(usual);
        if (1..=LARGEST_PAGE).contains(&limit) {
            Ok(limit)
        } else {
            Err(invalid("limit", "1 to 100"))
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Params::parse(parts.uri.query().unwrap_or(""))
            .map(Self)
            .map_err(|repeated| Problem::bad_request("invalid_parameter", repeated.to_string()))
    }
}
