//! `/api/docs`: the API's description for people. It is read from the same document.

use axum::extract::State;
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

use super::openapi;
use crate::pages::Page;
use crate::server::App;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// `/api/docs`
pub(super) async fn page(State(app): State<App>) -> Response {
    // A document of ours always becomes JSON; an empty page is what is left otherwise.
    let document = serde_json::to_value(openapi::describe(&app.settings)).unwrap_or_default();
    let document_path = app.settings.path("/api/openapi.json");
    let content = html! {
        h1 { "API" }
        p { (text(&document["info"]["description"])) }
        p { a href=(document_path) { "The same as an OpenAPI document" } }
        @for tag in list(&document["tags"]) {
            @let name = text(&tag["name"]);
            @let operations = operations(&document, name);
            @if !operations.is_empty() {
                h2 id=(name) { (name) }
                p { (text(&tag["description"])) }
                @for (method, path, operation) in operations {
                    (one(method, path, operation))
                }
            }
        }
        h2 id="schemas" { "Bodies" }
        @for (name, schema) in members(&document["components"]["schemas"]) {
            (body(name, schema))
        }
        (crate::docs::foot(&app.settings))
    };
    Page::new("API", content)
        .wide()
        .into_response(&app.settings)
}

fn one(method: &str, path: &str, operation: &Value) -> Markup {
    html! {
        h3 { code { (method.to_uppercase()) " " (path) } }
        p { (text(&operation["summary"])) }
        @let parameters = list(&operation["parameters"]);
        @if !parameters.is_empty() {
            dl {
                @for parameter in parameters {
                    dt { code { (text(&parameter["name"])) } " (" (text(&parameter["in"])) ")" }
                    dd { (text(&parameter["description"])) }
                }
            }
        }
        @for (_, content) in members(&operation["requestBody"]["content"]) {
            p { "Body: " (reference(&content["schema"])) }
        }
        dl {
            @for (status, answer) in members(&operation["responses"]) {
                dt { (status) }
                dd {
                    (text(&answer["description"]))
                    @for (_, content) in members(&answer["content"]) {
                        " " (reference(&content["schema"]))
                    }
                }
            }
        }
    }
}

fn body(name: &str, schema: &Value) -> Markup {
    html! {
        h3 id=(format!("body-{name}")) { code { (name) } }
        p { (text(&schema["description"])) }
        dl {
            @for (member, of) in members(&schema["properties"]) {
                dt { code { (member) } " " (kind(of)) }
                dd { (text(&of["description"])) }
            }
        }
    }
}

fn kind(schema: &Value) -> Markup {
    match &schema["type"] {
        Value::String(one) if one == "array" => html! { "list of " (kind(&schema["items"])) },
        Value::String(one) => html! { (one) },
        Value::Array(several) => html! {
            @for (at, one) in several.iter().enumerate() {
                @if at > 0 { " or " }
                (text(one))
            }
        },
        _ => reference(schema),
    }
}

/// A link to a body's description.
fn reference(schema: &Value) -> Markup {
    let name = text(&schema["$ref"]).rsplit('/').next().unwrap_or_default();
    html! {
        @if !name.is_empty() {
            a href=(format!("#body-{name}")) { code { (name) } }
        }
    }
}

fn operations<'a>(document: &'a Value, tag: &str) -> Vec<(&'static str, &'a str, &'a Value)> {
    let mut found = Vec::new();
    for (path, item) in members(&document["paths"]) {
        for method in METHODS {
            let operation = &item[method];
            if list(&operation["tags"]).iter().any(|own| own == tag) {
                found.push((method, path, operation));
            }
        }
    }
    found
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn members(value: &Value) -> Vec<(&str, &Value)> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value))
        .collect()
}
