//! The routes of the sources against the rows of the table.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{ACTORS, TABLE};
use crate::test_support::TestServer;

/// Routes that prove who somebody is, with tests of their own.
const SIGN_IN: [&str; 4] = [
    "/auth/login",
    "/auth/refresh",
    "/auth/callback/",
    "/auth/signIn/",
];

/// What stands behind the name of a constant, of the same file before any other. A path that is put
/// together is none of the API's: all of ours stand in one piece, so that they can be found.
fn path_of(name: &str, file: &Path, texts: &[(PathBuf, String)]) -> String {
    if let Some(made) = name.strip_prefix("&format!(\"") {
        let known = ["{OAUTH}{base_path}", "{OPENID}{base_path}"];
        let made = made.split_once('"').unwrap().0;
        assert!(known.contains(&made), "{}: {name}", file.display());
        return made.to_owned();
    }
    // Of another module, said with its name.
    let name = name.rsplit("::").next().unwrap();
    let definition = format!("const {name}: &str = \"");
    let value = |text: &str| {
        let (_, rest) = text.split_once(definition.as_str())?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let own = texts.iter().filter(|(path, _)| path == file);
    let others: Vec<_> = texts.iter().filter_map(|(_, text)| value(text)).collect();
    match (own.filter_map(|(_, text)| value(text)).next(), &*others) {
        (Some(own), _) => own,
        (None, [one]) => one.clone(),
        _ => panic!("{}: which path is {name}, of {others:?}", file.display()),
    }
}

/// All sources but tests.
fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, found);
        } else if path.is_file() && name.ends_with(".rs") && !name.contains("test") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The methods of what stands behind a path; `any(…)` takes each of them.
fn methods_of(handlers: &str) -> Vec<String> {
    let calls = |name: &str| {
        let call = format!("{name}(");
        handlers.match_indices(&call).any(|(at, _)| {
            let before = handlers[..at].chars().next_back();
            !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
        })
    };
    let any = calls("any");
    let found: Vec<_> = METHODS.iter().filter(|name| any || calls(name)).collect();
    assert!(!found.is_empty(), "which methods: {handlers}");
    found.into_iter().map(|name| name.to_uppercase()).collect()
}

/// Ways to make routes that would not be found here. Only the server itself is put below its base path.
const OTHER_WAYS: [&str; 6] = [
    ".nest(",
    ".nest_service(",
    ".route_service(",
    "any_service(",
    "get_service(",
    "MethodFilter",
];

/// `.route("…", get(…).post(…))` of all sources.
fn routes_in(folder: &Path) -> BTreeSet<(String, String)> {
    let (mut texts, mut found) = (Vec::new(), BTreeSet::new());
    sources(folder, &mut texts);
    for (path, text) in &texts {
        for way in OTHER_WAYS {
            let known = way == ".nest(" && path.ends_with("src/server.rs");
            let times = text.matches(way).count();
            assert_eq!(times, usize::from(known), "{}: {way}", path.display());
        }
        for part in text.split(".route(").skip(1) {
            let part = part.trim_start();
            // `route()` of something else.
            if part.starts_with(')') {
                continue;
            }
            let (route, rest) = match part.strip_prefix('"') {
                Some(rest) => {
                    let (route, rest) = rest.split_once('"').unwrap();
                    (route.to_owned(), rest)
                }
                None => {
                    let (name, rest) = part.split_once(',').unwrap();
                    (path_of(name.trim(), path, &texts), rest)
                }
            };
            if !route.starts_with("/api/v1/") && !route.starts_with("/auth/") {
                continue;
            }
            // Up to the end of this call.
            let mut depth = 1;
            let end = rest.find(|letter| {
                depth += i32::from(letter == '(') - i32::from(letter == ')');
                depth == 0
            });
            let methods = methods_of(&rest[..end.unwrap()]);
            found.extend(methods.into_iter().map(|method| (method, route.clone())));
        }
    }
    found
}

#[test]
fn a_route_for_any_method_is_a_route_for_each() {
    assert_eq!(methods_of(" get(a::list).post(a::get_it)"), ["GET", "POST"]);
    assert_eq!(methods_of(" any(a::all)").len(), METHODS.len());
    assert_eq!(methods_of(" delete(a::company(x)).fallback(w)"), ["DELETE"]);
}

/// Each row is an operation of the description, and each operation of the API a row.
#[tokio::test]
async fn every_row_is_described_and_every_operation_has_its_row() {
    let server = TestServer::start().await;
    let document = server.browser().get("/api/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    let described: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            let methods = methods.filter(|name| METHODS.contains(&name.as_str()));
            methods.map(move |method| (method.to_uppercase(), path.clone()))
        })
        .filter(|(_, path)| !SIGN_IN.iter().any(|start| path.starts_with(start)))
        .collect();
    let rows: BTreeSet<_> = TABLE
        .iter()
        .map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    let missing: Vec<_> = rows.symmetric_difference(&described).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_route_has_its_row_and_every_row_its_route() {
    let mut routes = routes_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    routes.retain(|(_, path)| !SIGN_IN.iter().any(|start| path.starts_with(start)));
    assert!(routes.len() > 80, "{}", routes.len());
    let rows: BTreeSet<_> = TABLE
        .iter()
        .map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    assert_eq!(rows.len(), TABLE.len(), "a row is there twice");
    let missing: Vec<_> = routes.difference(&rows).collect();
    assert!(
        missing.is_empty(),
        "routes without a row that says who may call them: {missing:?}"
    );
    let gone: Vec<_> = rows.difference(&routes).collect();
    assert!(gone.is_empty(), "rows without a route: {gone:?}");
    assert!(TABLE.iter().all(|row| row.3.len() == ACTORS.len()));
}
