//! Settings that would otherwise fail later, where nobody looks for the reason: at GitHub's first report, at a
//! stranger's sign-up.

use keywright_domain::people::RoleName;
use url::Url;

use super::SettingError;
use crate::rp::outbound;

/// The built-in role that manages everything but owners.
const ADMIN: &str = "admin";

/// An address that is never asked would have every report of GitHub refused.
pub(super) fn github_keys_url(url: &Url, private_too: bool) -> Result<(), SettingError> {
    let refused = |why: String| SettingError::new("leaks.github_keys_url", why);
    outbound::check(url, private_too).map_err(|error| refused(error.to_string()))?;
    let has_more = url.username() != "" || url.password().is_some() || url.fragment().is_some();
    if has_more {
        let why = "it has a name, a password or a fragment";
        return Err(refused(why.to_owned()));
    }
    Ok(())
}

/// Whoever has an account at a provider gets it: nobody meant to make strangers administrators.
pub(super) fn sign_up_role(role: &str) -> Result<(), SettingError> {
    let why = match RoleName::new(role) {
        Err(_) => format!("“{role}” is no role's name: small letters, digits, - and _"),
        Ok(name) if name.is_owner() || name.as_str() == ADMIN => format!(
            "every stranger with an account at a provider would be {role}: invite those, or give it to them afterwards"
        ),
        Ok(_) => return Ok(()),
    };
    Err(SettingError::new("sign_up.provider_roles", why))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::super::{LONGEST_DRAIN, Settings, SignUp};

    fn settings() -> Settings {
        Settings::new("http://127.0.0.1:8377", PathBuf::from("data")).unwrap()
    }

    fn refused(change: impl FnOnce(&mut Settings)) -> &'static str {
        let mut settings = settings();
        change(&mut settings);
        settings.check().unwrap_err().setting
    }

    #[test]
    fn ac_200_an_address_of_keys_that_is_never_asked_is_refused_by_name() {
        let keys = "leaks.github_keys_url";
        for bad in [
            "http://api.github.com/meta/public_keys/secret_scanning",
            "ftp://api.github.com/x",
            "data:x",
            "http://127.0.0.1/x",
            "https://127.0.0.1/x",
            "https://10.1.2.3/x",
            "https://[::1]/x",
            "https://name:word@api.github.com/x",
            "https://name@api.github.com/x",
            "https://api.github.com/x#y",
        ] {
            let url = bad.parse().unwrap();
            assert_eq!(refused(|s| s.github_keys_url = Some(url)), keys, "{bad}");
        }
        let mut good = settings();
        good.github_keys_url = Some("https://api.github.com/meta?x=1".parse().unwrap());
        good.check().unwrap();
        let mut development = settings();
        development.allow_private_addresses = true;
        development.github_keys_url = Some("http://127.0.0.1:9/keys".parse().unwrap());
        development.check().unwrap();
    }

    #[test]
    fn ac_200_strangers_get_no_role_that_is_none_and_none_that_manages_people() {
        for bad in ["Member ", "", "owner", "admin"] {
            let roles = vec!["member".to_owned(), bad.to_owned()];
            let refused = refused(|s| s.sign_up = SignUp::ByProvider(roles));
            assert_eq!(refused, "sign_up.provider_roles", "{bad}");
        }
        for good in [&["member", "reader"][..], &[]] {
            let mut settings = settings();
            let roles = good.iter().map(ToString::to_string).collect();
            settings.sign_up = SignUp::ByProvider(roles);
            settings.check().unwrap();
        }
    }

    #[test]
    fn the_unit_waits_as_long_as_the_settings_allow_to_drain() {
        let unit = include_str!("../../../../packaging/server/keywright-server.service");
        let stop = unit
            .lines()
            .find_map(|line| line.strip_prefix("TimeoutStopSec="));
        let stop: u64 = stop.unwrap().parse().unwrap();
        // Notice, drain, and what is written at the end.
        let longest = 2 * LONGEST_DRAIN + Duration::from_secs(10);
        assert!(stop >= longest.as_secs(), "killed after {stop} s");
    }

    #[test]
    fn an_image_is_built_in_a_form_that_has_its_health_check() {
        // Images in OCI's form, podman's own, have no health check.
        let container = include_str!("../../../../packaging/container/Containerfile");
        assert!(container.contains("\nHEALTHCHECK "));
        for text in [container, include_str!("../../../../docs/server.md")] {
            let mut builds = text.lines().filter(|line| line.contains("podman build "));
            let build = builds.next().unwrap();
            assert!(build.contains("--format docker"), "{build}");
            assert_eq!(builds.next(), None);
        }
    }
}
