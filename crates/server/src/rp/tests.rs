//! The relying party against stubs: small HTTP servers on this machine that stand for GitHub, Google, Facebook
//! and other OpenID providers, honest and not.

mod coming_back;
mod facebook;
mod liars;
mod linking;
mod mounted;
mod on_the_way;
mod proofs;
mod provider_api;
mod stub;
mod trips;
