//! A path that is taken as ours stays on our host and below our folder, as browsers read it, in a
//! link and in a header.
#![no_main]

// The file by itself: the whole server would have to be built.
#[path = "../../crates/server/src/http/local_path.rs"]
mod local_path;

use libfuzzer_sys::fuzz_target;
use local_path::LocalPath;
use url::Url;

fuzz_target!(|text: &str| {
    check(text);
    // Most texts would not begin so by chance.
    check(&format!("/base/{text}"));
});

fn check(text: &str) {
    let Some(path) = LocalPath::parse(text) else {
        return;
    };
    assert_eq!(path.as_str(), text);
    assert!(!text.bytes().any(|byte| byte < b' ' || byte == 0x7f));
    let here = Url::parse("https://id.example.com/base/sign-in?a=b").expect("a URL");
    let there = here.join(text).expect("a path leads somewhere");
    assert_eq!(there.origin(), here.origin(), "{text:?}");
    assert!(there.username().is_empty() && there.password().is_none());
    if text.starts_with("/base/") {
        assert!(there.path().starts_with("/base/"), "{text:?} is {there}");
    }
}
