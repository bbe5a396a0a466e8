//! The rules of Keywright: keys, secrets, rotation, scopes, tokens.
//!
//! This room has no IO, no async, no clock, no randomness of its own and no serde: time and
//! entropy are passed in, and nothing here can fail for outside reasons.

pub mod accounts;
pub mod api_keys;
pub mod audit;
pub mod audit_chain;
pub mod base62;
pub mod flows;
pub mod id_token;
pub mod issuer;
pub mod people;
pub mod pkce;
pub mod schedules;
pub mod scopes;
pub mod secret_text;

pub use secret_text::SecretText;

#[cfg(test)]
mod tests {
    /// S2-01: the rules can be used below any face. What `deny.toml` says of the whole graph, said of this room.
    #[test]
    fn s2_01_the_rules_know_no_framework_no_wire_and_no_database() {
        let manifest = include_str!("../Cargo.toml");
        let (_, rest) = manifest.split_once("[dependencies]").unwrap();
        let (own, _) = rest.split_once("\n[").unwrap();
        let names: Vec<_> = own
            .lines()
            .filter_map(|line| line.split(['.', ' ', '=']).next())
            .filter(|name| !name.is_empty())
            .collect();
        assert!(names.contains(&"sha2"), "{names:?}");
        for name in &names {
            let foreign = [
                "axum",
                "http",
                "hyper",
                "tower",
                "tauri",
                "tokio",
                "sqlx",
                "serde",
                "reqwest",
                "keyring",
                "keywright",
            ];
            assert!(
                !foreign.iter().any(|start| name.starts_with(start)),
                "{name}"
            );
        }
    }
}
