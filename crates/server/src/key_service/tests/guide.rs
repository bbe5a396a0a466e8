//! What `docs/key-api.md` shows as JSON is taken as it stands there.

use axum::http::Method;
use serde_json::Value;

use super::moving::{hash, import};
use super::{fine, id_of, verdict};
use crate::keys::tests::{root, wish};
use crate::test_support::TestServer;

const GUIDE: &str = include_str!("../../../../../docs/key-api.md");

/// The JSON of the guide that begins like this, which nothing else in it does.
#[track_caller]
fn shown(beginning: &str) -> Value {
    let places: Vec<_> = GUIDE.match_indices(beginning).map(|(at, _)| at).collect();
    assert_eq!(places.len(), 1, "{beginning}");
    let mut values = serde_json::Deserializer::from_str(&GUIDE[places[0]..]).into_iter();
    values.next().unwrap().unwrap()
}

#[tokio::test]
async fn settings_and_schedule_of_the_guide_are_all_that_there_is() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let settings = shown(r#"{"limits":[{"name":"requests","count":100,"period_ms":60000,"burst""#);
    let mut wish = wish();
    wish["settings"] = settings.clone();
    let issued = root.issue(wish).await;
    let path = format!("/api/v1/keys/{}", id_of(&issued));
    // Nothing is shown of a key's settings that the guide leaves out.
    assert_eq!(fine(&root.get(&path).await)["settings"], settings);

    let schedule = shown(r#"{"every_ms""#);
    let path = format!("{path}/schedule");
    let set = fine(&root.send(Method::PUT, &path, schedule.clone()).await);
    for (name, value) in schedule.as_object().unwrap() {
        assert_eq!(&set["schedule"][name], value, "{name}");
    }
}

#[tokio::test]
async fn the_line_of_an_import_in_the_guide_is_taken() {
    let server = TestServer::start().await;
    let mut root = root(&server).await;
    let key = "key-of-the-guide-0123456789";
    let mut line = shown(r#"{"name":"Old","hash""#);
    line["hash"] = hash(key).into();
    let done = fine(&import(&mut root, "dry_run=false", &line.to_string()).await);
    assert_eq!(done["refused"], serde_json::json!([]), "{done}");
    assert_eq!(verdict(&mut root, key).await["code"], "valid");
}
