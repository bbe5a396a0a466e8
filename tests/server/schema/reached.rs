//! Which operations of the description were carried out.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// Operations that the generator does not bring about, each with its reason and with what carries it out instead.
/// An operation that is no more in the description has no place here either.
const NOT_DONE: &[(&str, &str)] = &[
    (
        "GET /api/v1/events",
        "its answer has no end; key_service::tests::events, the verifier's example",
    ),
    (
        "POST /api/v1/import",
        "lines of JSON are no body that it can make; key_service::tests::moving",
    ),
];

/// Statuses by operation (`GET /api/v1/keys`), with the operations that nobody asked for.
#[derive(Debug)]
pub(super) struct Reached(BTreeMap<String, BTreeSet<u16>>);

/// All operations of the description.
pub(super) fn operations(document: &Value) -> Result<Vec<(String, String)>> {
    let paths = document["paths"].as_object().context("no paths")?;
    let mut operations = Vec::new();
    for (path, item) in paths {
        for method in item.as_object().context("no operations")?.keys() {
            if ["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                operations.push((method.to_uppercase(), path.clone()));
            }
        }
    }
    Ok(operations)
}

/// How many segments of a described path are exactly those of a real one; none where it is another one.
fn fits(described: &str, path: &str) -> Option<usize> {
    let (mut described, mut path) = (described.split('/'), path.split('/'));
    let mut same = 0;
    loop {
        match (described.next(), path.next()) {
            (None, None) => return Some(same),
            (Some(one), Some(other)) if one == other => same += 1,
            (Some(one), Some(other)) if one.starts_with('{') && !other.is_empty() => {}
            _ => return None,
        }
    }
}

impl Reached {
    /// Of the requests that the generator wrote down (HAR 1.2).
    pub(super) fn read(document: &Value, seen: &Value) -> Result<Self> {
        let operations = operations(document)?;
        let mut reached: BTreeMap<String, BTreeSet<u16>> = operations
            .iter()
            .map(|(method, path)| (format!("{method} {path}"), BTreeSet::new()))
            .collect();
        let entries = seen["log"]["entries"].as_array().context("no entries")?;
        for entry in entries {
            let method = entry["request"]["method"].as_str().context("no method")?;
            let url = entry["request"]["url"].as_str().context("no address")?;
            let path = url::Url::parse(url)?.path().to_owned();
            let own = operations.iter().filter(|(own, _)| own == method);
            let found = own.max_by_key(|(_, described)| fits(described, &path));
            let status = entry["response"]["status"].as_u64().unwrap_or(0);
            // Methods and paths that are nobody's are among what it tries.
            if let Some((_, described)) =
                found.filter(|(_, path_of)| fits(path_of, &path).is_some())
                && let Some(statuses) = reached.get_mut(&format!("{method} {described}"))
            {
                statuses.insert(u16::try_from(status)?);
            }
        }
        Ok(Self(reached))
    }

    /// Both together.
    pub(super) fn and(mut self, other: Self) -> Self {
        for (operation, statuses) in other.0 {
            self.0.entry(operation).or_default().extend(statuses);
        }
        self
    }

    /// Every operation was carried out, or is listed; nothing else is listed.
    pub(super) fn check(&self) -> Result<()> {
        let is_done = |statuses: &BTreeSet<u16>| statuses.iter().any(|one| one / 100 == 2);
        let listed: BTreeMap<_, _> = NOT_DONE.iter().copied().collect();
        for (operation, reason) in &listed {
            let is_described = self.0.contains_key(*operation);
            ensure!(is_described, "{operation} is listed, and not described");
            ensure!(reason.len() > 20, "{operation}: why?");
        }
        let missing = self.0.iter().filter(|(operation, statuses)| {
            !is_done(statuses) && !listed.contains_key(operation.as_str())
        });
        let missing: Vec<_> = missing.collect();
        ensure!(
            missing.is_empty(),
            "{} of {} operations were never carried out: {missing:#?}",
            missing.len(),
            self.0.len()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(requests: &[(&str, &str, u16)]) -> Value {
        let entries: Vec<_> = requests
            .iter()
            .map(|(method, path, status)| {
                let url = format!("http://127.0.0.1:1{path}");
                json!({ "request": { "method": method, "url": url }, "response": { "status": status } })
            })
            .collect();
        json!({ "log": { "entries": entries } })
    }

    #[test]
    fn a_request_is_of_the_operation_that_it_is_for() -> Result<()> {
        let document = json!({ "paths": {
            "/keys/{id}": { "get": {}, "parameters": [] },
            "/keys/counts": { "get": {} },
            "/keys/{id}/revoke": { "post": {} },
        } });
        let requests = [
            ("GET", "/keys/counts?x=1", 200),
            ("GET", "/keys/abc", 404),
            ("POST", "/keys/abc/revoke", 204),
            ("TRACE", "/keys/abc", 405),
            ("GET", "/keys/", 404),
            ("GET", "/elsewhere", 200),
        ];
        let reached = Reached::read(&document, &seen(&requests))?;
        let of = |operation: &str| reached.0[operation].iter().copied().collect::<Vec<_>>();
        assert_eq!(of("GET /keys/counts"), [200]);
        assert_eq!(of("GET /keys/{id}"), [404]);
        assert_eq!(of("POST /keys/{id}/revoke"), [204]);
        assert_eq!(reached.0.len(), 3);
        Ok(())
    }
}
