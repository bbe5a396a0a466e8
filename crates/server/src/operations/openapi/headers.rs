//! Headers of answers.

use utoipa::openapi::RefOr;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

/// What may be asked for with `If-None-Match` comes with its tag (RFC 9110 §8.8.3): that is where callers have it from.
pub(super) fn of_get(operation: &mut Operation) {
    let mut parameters = operation.parameters.iter().flatten();
    let has_tag = parameters.any(|one| {
        matches!(one, RefOr::T(one) if one.parameter_in == ParameterIn::Header && one.name == "If-None-Match")
    });
    let shown = operation.responses.responses.get_mut("200");
    if let Some(RefOr::T(shown)) = shown.filter(|_| has_tag) {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(r#"^"[!#-~]+"$"#));
        let mut tag = Header::new(text);
        tag.description = Some("For `If-Match` and `If-None-Match`".to_owned());
        // utoipa has no member for it.
        tag.extensions = Some(Extensions::from_iter([("required", true)]));
        shown.headers.insert("ETag".to_owned(), tag.into());
    }
}
