//! Spans as OTLP writes them in JSON (opentelemetry-proto 1.x, “JSON Protobuf Encoding”): ids as
//! hexadecimal text, 64-bit numbers as text, enumerations as numbers.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Span;

/// `SPAN_KIND_SERVER`.
const SERVER: u32 = 2;
/// `STATUS_CODE_ERROR`.
const ERROR: u32 = 2;
const NAME: &str = "keywright-server";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Bytes as text.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a text cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The body of one request to the collector. `instance`: this process.
pub(super) fn request(spans: &[Span], instance: &str) -> Value {
    let resource = [
        text("service.name", NAME),
        text("service.version", VERSION),
        text("service.instance.id", instance),
    ];
    let spans: Vec<Value> = spans.iter().map(span).collect();
    json!({
        "resourceSpans": [{
            "resource": { "attributes": resource },
            "scopeSpans": [{
                "scope": { "name": NAME, "version": VERSION },
                "spans": spans,
            }],
        }],
    })
}

/// What the log says of a request, by the names of OpenTelemetry's conventions for HTTP. No path, no
/// query, no header, no body: they hold ids, codes and tokens.
fn span(span: &Span) -> Value {
    let attributes = [
        text("http.request.method", span.method),
        text("http.route", &span.route),
        json!({
            "key": "http.response.status_code",
            "value": { "intValue": span.status.to_string() },
        }),
        text("client.address", &span.client.to_string()),
        text("keywright.request_id", &span.request_id),
    ];
    let ended = span.began_ns.saturating_add(span.took_ns);
    let mut value = json!({
        "traceId": hex(&span.trace.trace_id),
        "spanId": hex(&span.trace.span_id),
        "name": format!("{} {}", span.method, span.route),
        "kind": SERVER,
        "startTimeUnixNano": span.began_ns.to_string(),
        "endTimeUnixNano": ended.to_string(),
        "attributes": attributes,
    });
    if let Some(parent) = &span.trace.parent {
        value["parentSpanId"] = hex(parent).into();
    }
    if span.status >= 500 {
        value["status"] = json!({ "code": ERROR });
    }
    value
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}
