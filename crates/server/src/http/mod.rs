//! What handlers need of HTTP: who asks, cookies, forms, CSRF, headers of every answer.

pub(crate) mod close_names;
mod cookie_header;
pub(crate) mod cookies;
pub(crate) mod csrf;
pub(crate) mod failures;
mod forwarded;
pub(crate) mod going_on;
pub(crate) mod headers;
pub(crate) mod local_path;
pub(crate) mod once_more;
mod pairs;
pub(crate) mod params;
pub(crate) mod peer;
mod rate_limits;
mod values;

pub(crate) use cookies::Cookies;
pub(crate) use params::Params;
pub(crate) use peer::Peer;
pub(crate) use rate_limits::LimitFields;
pub(crate) use values::Values;
