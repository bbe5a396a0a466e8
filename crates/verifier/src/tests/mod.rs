//! The whole verifier against an issuer written by hand, on this machine.

mod gate;
mod issuer;
mod offline;
mod online;
