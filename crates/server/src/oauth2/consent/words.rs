//! Scopes in people's words, one line each.

/// What a scope lets an application do.
pub(crate) fn line(scope: &str) -> String {
    let fixed = match scope {
        "openid" => "Know that it is you when you come back",
        "profile" => "See your name",
        "email" => "See your e-mail address",
        "offline_access" => "Stay signed in while you are away",
        "account" => "See and end your sessions, and manage the applications that you allowed",
        _ => return of_permission(scope),
    };
    fixed.to_owned()
}

fn of_permission(scope: &str) -> String {
    let Some((what, how)) = scope.rsplit_once(':') else {
        return format!("Use “{scope}”");
    };
    let what = match what {
        "*" => "everything here",
        "keys" => "API keys",
        "scopes" => "the list of scopes",
        "policies" => "the rules for API keys",
        "audit" => "the audit trail",
        "users" => "people's accounts",
        "sessions" => "people's sessions",
        "roles" => "roles",
        "clients" => "applications",
        "providers" => "identity providers",
        _ => return format!("Use “{scope}”"),
    };
    match how {
        "read" => format!("See {what}, as far as you may"),
        "write" => format!("Change {what}, as far as you may"),
        "*" => format!("See and change {what}, as far as you may"),
        other => format!("Do “{other}” with {what}, as far as you may"),
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn every_scope_has_its_line() {
        assert_eq!(line("email"), "See your e-mail address");
        assert_eq!(line("keys:read"), "See API keys, as far as you may");
        assert_eq!(line("keys:*"), "See and change API keys, as far as you may");
        assert_eq!(line("orders:read"), "Use “orders:read”");
        assert_eq!(line("strange"), "Use “strange”");
    }
}
