//! What parameters and members of bodies may be, where the attributes of handlers and types cannot say it.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::Number;
use utoipa::openapi::RefOr;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::{
    ArrayItems, KnownFormat, Object, Schema, SchemaFormat, SchemaType, Type,
};

/// What headers may be that several operations take: what else comes is refused.
const HEADERS: [(&str, &str); 3] = [
    ("Idempotency-Key", "^[A-Za-z0-9._-]{8,64}$"),
    // RFC 9110 §13.1: a list of tags, or any.
    ("If-Match", TAGS),
    ("If-None-Match", TAGS),
];
const TAGS: &str =
    r#"^(\*|[ \t,]*(W/)?"[!#-~]*"[ \t]*(,[ \t,]*(W/)?"[!#-~]*"[ \t]*){0,49}[ \t,]*)$"#;

/// Who ends something and says how long to wait is understood or refused (`nodes::receipts::Wait`).
const NEVER_EMPTY: &str = "wait_ms";

/// Puts the parameters and the body of an operation right.
pub(super) fn of_operation(operation: &mut Operation) {
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        of_body(body);
    }
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else {
            continue;
        };
        if parameter.parameter_in == ParameterIn::Query && parameter.name != NEVER_EMPTY {
            // Empty counts as absent (`http::Params`). utoipa has no member for it.
            let empty = Extensions::from_iter([("allowEmptyValue", true)]);
            parameter.extensions = Some(empty);
        }
        let known = HEADERS.iter().find(|(name, _)| is_header(parameter, name));
        let Some(RefOr::T(Schema::Object(schema))) = &mut parameter.schema else {
            continue;
        };
        if let Some((_, pattern)) = known {
            schema.pattern = Some((*pattern).to_owned());
        }
        never_null(schema);
        put_right(schema);
    }
}

/// A body that may be left out is an `Option` in the attributes, and its schema allows `null` for that. Nothing at
/// all is what may come, and the word `null` is refused.
fn of_body(body: &mut RequestBody) {
    for content in body.content.values_mut() {
        let RefOr::T(content) = content else { continue };
        let Some(RefOr::T(Schema::OneOf(several))) = &mut content.schema else {
            continue;
        };
        several.items.retain(|one| !is_null(one));
        if let [only] = &*several.items {
            content.schema = Some(only.clone());
        }
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    let null = SchemaType::Type(Type::Null);
    matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == null)
}

/// Puts schemas of bodies right.
pub(super) fn of_bodies(schemas: &mut BTreeMap<String, RefOr<Schema>>) {
    schemas.values_mut().for_each(in_schema);
}

fn in_schema(schema: &mut RefOr<Schema>) {
    let RefOr::T(schema) = schema else { return };
    match schema {
        Schema::Object(object) => {
            put_right(object);
            object.properties.values_mut().for_each(in_schema);
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                in_schema(items);
            }
        }
        Schema::OneOf(several) => several.items.iter_mut().for_each(in_schema),
        Schema::AllOf(several) => several.items.iter_mut().for_each(in_schema),
        Schema::AnyOf(several) => several.items.iter_mut().for_each(in_schema),
        _ => {}
    }
}

fn put_right(schema: &mut Object) {
    words(schema);
    unsigned(schema);
}

fn is_header(parameter: &Parameter, name: &str) -> bool {
    parameter.parameter_in == ParameterIn::Header && parameter.name == name
}

/// A parameter that may be left out is an `Option` here, and its schema allows `null` for that. There is no
/// `null` in an address or a header: what came would be the word.
fn never_null(schema: &mut Object) {
    if let SchemaType::Array(types) = &mut schema.schema_type {
        types.retain(|one| *one != Type::Null);
        if let [only] = &**types {
            schema.schema_type = SchemaType::Type(only.clone());
        }
    }
}

/// One of some words is a pattern in the attributes, which know no list. Programs that make code of the
/// description want the list.
fn words(schema: &mut Object) {
    let inner = |pattern: &str| {
        let inner = pattern.strip_prefix("^(")?.strip_suffix(")$")?;
        let words: Vec<_> = inner.split('|').map(Value::from).collect();
        let plain = |letter: char| letter.is_ascii_lowercase() || "_-".contains(letter);
        inner
            .split('|')
            .all(|word| word.chars().all(plain))
            .then_some(words)
    };
    let Some(mut words) = schema.pattern.as_deref().and_then(inner) else {
        return;
    };
    if matches!(&schema.schema_type, SchemaType::Array(types) if types.contains(&Type::Null)) {
        words.push(Value::Null);
    }
    schema.pattern = None;
    schema.enum_values = Some(words);
}

/// `int32` ends at 2³¹ - 1, and a `u32`, which has that format, at 2³² - 1.
fn unsigned(schema: &mut Object) {
    let int32 = SchemaFormat::KnownFormat(KnownFormat::Int32);
    if schema.format != Some(int32) || schema.minimum.is_none() {
        return;
    }
    let ends_early = match &schema.maximum {
        Some(Number::Int(most)) => i32::try_from(*most).is_ok(),
        Some(Number::UInt(most)) => i32::try_from(*most).is_ok(),
        Some(Number::Float(_)) => false,
        None => {
            schema.maximum = Some(Number::from(u32::MAX));
            false
        }
    };
    if !ends_early {
        schema.format = Some(SchemaFormat::KnownFormat(KnownFormat::Int64));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::test_support::TestServer;

    async fn document() -> (TestServer, Value) {
        let server = TestServer::start().await;
        let document = server.browser().get("/api/openapi.json").await.json();
        (server, document)
    }

    /// Parameters of the operations, with their paths.
    fn parameters(document: &Value) -> Vec<(String, &Value)> {
        let mut found = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let own = operation["parameters"].as_array().into_iter().flatten();
                found.extend(own.map(|one| (format!("{method} {path}"), one)));
            }
        }
        assert!(found.len() > 100, "{}", found.len());
        found
    }

    #[tokio::test]
    async fn parameters_are_never_null_and_headers_have_their_patterns() {
        let (_server, document) = document().await;
        for (asked, parameter) in parameters(&document) {
            let schema = &parameter["schema"];
            assert!(schema["type"].is_string(), "{asked} {parameter}");
            let name = parameter["name"].as_str().unwrap();
            let may_be_empty = parameter["in"] == "query" && name != super::NEVER_EMPTY;
            assert_eq!(
                parameter["allowEmptyValue"] == true,
                may_be_empty,
                "{asked}"
            );
            if super::HEADERS.iter().any(|(known, _)| *known == name) {
                assert!(schema["pattern"].is_string(), "{asked} {name}");
            }
            if name == "limit" {
                assert_eq!(schema["minimum"], 1, "{asked}");
                assert!(schema["maximum"].is_u64(), "{asked}");
            }
        }
    }

    /// What the description lists is what the server knows, and an empty parameter is none.
    #[tokio::test]
    async fn each_word_that_a_parameter_lists_is_taken() {
        let (server, document) = document().await;
        let owner = server.add_user("words@example.org", &["owner"]).await;
        let mut browser = server.sign_in_as(&owner).await;
        let mut taken = 0;
        for (asked, parameter) in parameters(&document) {
            let (method, path) = asked.split_once(' ').unwrap();
            if method != "get" || path.contains('{') || parameter["in"] != "query" {
                continue;
            }
            let words = parameter["schema"]["enum"].as_array();
            let words = words
                .into_iter()
                .flatten()
                .map(|word| word.as_str().unwrap());
            for word in words.chain([""]) {
                let name = parameter["name"].as_str().unwrap();
                let answer = browser.get(&format!("{path}?{name}={word}")).await;
                assert_eq!(answer.status, 200, "{path} {name}={word}: {}", answer.text);
                taken += usize::from(!word.is_empty());
            }
        }
        assert!(taken > 25, "{taken}");
    }

    #[tokio::test]
    async fn a_body_that_may_be_left_out_is_not_required() {
        let (_server, document) = document().await;
        let body = |path: &str| document["paths"][path]["post"]["requestBody"].clone();
        for path in [
            "/api/v1/keys/{id}/revoke",
            "/api/v1/keys/{id}/disable",
            "/api/v1/keys/{id}/end-copy",
            "/api/v1/keys/{id}/rotations",
            "/api/v1/keys/{id}/rotations/{rotation_id}/reissue",
            "/api/v1/keys/{id}/secrets/{kid}/revoke",
            "/api/v1/owners/{id}/disable",
            "/api/v1/owners/{id}/revoke-keys",
        ] {
            let body = body(path);
            assert_ne!(body["required"], true, "{path}");
            let schema = &body["content"]["application/json"]["schema"];
            assert!(schema["$ref"].is_string(), "{path}: {schema}");
        }
        assert_eq!(body("/api/v1/keys")["required"], true);
    }

    #[tokio::test]
    async fn bodies_list_their_words_and_say_how_large_numbers_may_be() {
        let (_server, document) = document().await;
        let schemas = &document["components"]["schemas"];
        let answer = &schemas["AnswerBody"]["properties"];
        assert_eq!(answer["answer"]["enum"], json!(["keep", "retire"]));
        assert_eq!(answer["how"]["enum"], json!(["revoke", "disable", null]));
        assert_eq!(answer["how"]["pattern"], Value::Null);
        let cost = &schemas["VerifyBody"]["properties"]["cost"];
        assert_eq!(cost["maximum"], u32::MAX);
        assert_eq!(cost["format"], "int64");
        let period = &schemas["RateLimitBody"]["properties"]["period_ms"];
        assert_eq!(period["maximum"], 2_592_000_000_i64);
        assert_eq!(period["format"], "int64");
        // What has a bound of its own keeps it.
        let days = &schemas["PreviewBody"]["properties"]["days"];
        assert_eq!(
            (&days["minimum"], &days["maximum"]),
            (&json!(1), &json!(365))
        );
    }
}
