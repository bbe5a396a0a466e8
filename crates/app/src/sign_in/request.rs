//! What a person asked for, checked before anything is done with it.

use keywright_protocol::accounts::SignInRequest;

use super::error::SignInError;
use super::presets::{Kind, Preset, Provider};

/// A request that makes sense.
pub(crate) struct CheckedRequest {
    pub(crate) provider: Provider,
    pub(crate) client_id: String,
    pub(crate) scopes: Vec<String>,
}

impl CheckedRequest {
    /// Reads the request: a known provider, a client id, scopes in order and once each.
    pub(crate) fn read(request: &SignInRequest) -> Result<Self, SignInError> {
        let preset = Preset::find(&request.provider_id)
            .ok_or_else(|| invalid("Keywright does not know this provider."))?;
        let provider = preset.provider(&request.issuer)?;
        let client_id = request.client_id.trim().to_owned();
        if client_id.is_empty() || client_id.len() > 512 || client_id.contains(char::is_control) {
            return Err(invalid("Enter the client id that the provider gave you."));
        }
        Ok(Self {
            scopes: read_scopes(preset, &request.scopes)?,
            provider,
            client_id,
        })
    }
}

fn read_scopes(preset: &Preset, typed: &[String]) -> Result<Vec<String>, SignInError> {
    let mut scopes: Vec<String> = Vec::new();
    for scope in typed.iter().flat_map(|scope| scope.split_whitespace()) {
        // RFC 6749 §3.3
        if !scope
            .bytes()
            .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
        {
            return Err(invalid("A scope holds printable ASCII characters only."));
        }
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    if scopes.is_empty() {
        scopes = preset.default_scopes();
    }
    if preset.kind == Kind::OpenId && !scopes.iter().any(|scope| scope == "openid") {
        scopes.insert(0, "openid".to_owned());
    }
    Ok(scopes)
}

fn invalid(text: &str) -> SignInError {
    SignInError::InvalidRequest(text.to_owned())
}

#[cfg(test)]
mod tests {
    use keywright_protocol::accounts::SignInRequest;

    use super::CheckedRequest;

    fn read(change: impl FnOnce(&mut SignInRequest)) -> Result<Vec<String>, &'static str> {
        let mut request = SignInRequest {
            provider_id: "openid".to_owned(),
            issuer: " https://id.example.com ".to_owned(),
            client_id: " app ".to_owned(),
            client_secret: None,
            scopes: Vec::new(),
            login_hint: None,
            account_id: None,
        };
        change(&mut request);
        let checked = CheckedRequest::read(&request).map_err(|error| error.code())?;
        assert_eq!(
            (
                checked.client_id.as_str(),
                checked.provider.issuer.host().is_empty()
            ),
            ("app", false)
        );
        Ok(checked.scopes)
    }

    #[test]
    fn requests_are_checked_and_completed() {
        assert_eq!(
            read(|_| ()),
            Ok(["openid", "profile", "email", "offline_access"]
                .map(str::to_owned)
                .to_vec())
        );
        let typed = |scopes: &str| read(|request| request.scopes = vec![scopes.to_owned()]);
        assert_eq!(
            typed("email  email api"),
            Ok(["openid", "email", "api"].map(str::to_owned).to_vec())
        );
        assert_eq!(typed("a\u{0}b"), Err("invalid_request"));
        assert_eq!(typed("a\"b"), Err("invalid_request"));
        assert_eq!(
            read(|request| request.client_id = "  ".to_owned()),
            Err("invalid_request")
        );
        assert_eq!(
            read(|request| request.provider_id = "nonesuch".to_owned()),
            Err("invalid_request")
        );
        assert_eq!(
            read(|request| request.issuer = "http://id.example.com".to_owned()),
            Err("insecure_endpoint")
        );
        assert_eq!(
            read(|request| request.issuer = "nonsense".to_owned()),
            Err("invalid_issuer")
        );
    }
}
