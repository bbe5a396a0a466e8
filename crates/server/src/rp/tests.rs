//! The relying party against stubs: small HTTP servers on this machine that stand for GitHub, Google
//! and other OpenID providers, honest and not.

mod coming_back;
mod liars;
mod linking;
mod mounted;
mod proofs;
mod provider_api;
mod stub;
mod trips;
