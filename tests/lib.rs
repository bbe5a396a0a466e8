//! Nothing to use from outside: the package exists for its one test binary, `whole.rs`.
