//! Linking: whose identity at another provider is this? By (issuer, subject); by e-mail only if
//! both sides verified it (S65).

use super::PeopleError;

/// What is known when somebody comes back from a provider.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkFacts<'a> {
    /// Whom (issuer, subject) is linked to.
    pub linked_to: Option<&'a str>,
    /// Who is signed in here, if they asked to link.
    pub signed_in_as: Option<&'a str>,
    /// Who has the same e-mail here, and whether we verified it.
    pub email_of: Option<(&'a str, bool)>,
    /// Whether that person has a second factor or a passkey: then their mailbox alone must not be a way in.
    pub email_owner_has_more: bool,
    /// Whether the provider verified the e-mail, and is trusted to say so.
    pub email_verified_there: bool,
    /// Whether strangers may sign up.
    pub sign_up_allowed: bool,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkDecision {
    /// It is this person.
    SignIn(String),
    /// It becomes this person's.
    Link(String),
    /// A new person.
    Create,
    /// Nothing yet.
    Refuse(LinkRefusal),
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkRefusal {
    /// It is linked to somebody else (AC-077).
    IdentityInUse,
    /// Somebody has that e-mail here: sign in first, then link (AC-076).
    SignInToLink,
    /// Strangers cannot sign up.
    SignUpClosed,
}

impl LinkRefusal {
    /// Stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::IdentityInUse => "identity_in_use",
            Self::SignInToLink => "sign_in_to_link",
            Self::SignUpClosed => "sign_up_closed",
        }
    }
}

impl LinkFacts<'_> {
    /// Decides.
    #[must_use]
    pub fn decide(&self) -> LinkDecision {
        match (self.linked_to, self.signed_in_as, self.email_of) {
            (Some(owner), Some(person), _) if owner != person => {
                LinkDecision::Refuse(LinkRefusal::IdentityInUse)
            }
            (Some(owner), _, _) => LinkDecision::SignIn(owner.to_owned()),
            (None, Some(person), _) => LinkDecision::Link(person.to_owned()),
            (None, None, Some((owner, true)))
                if self.email_verified_there && !self.email_owner_has_more =>
            {
                LinkDecision::Link(owner.to_owned())
            }
            (None, None, Some(_)) => LinkDecision::Refuse(LinkRefusal::SignInToLink),
            (None, None, None) if self.sign_up_allowed => LinkDecision::Create,
            (None, None, None) => LinkDecision::Refuse(LinkRefusal::SignUpClosed),
        }
    }
}

/// Refuses to take away the last way to sign in.
///
/// # Errors
/// [`PeopleError::LastSignInMethod`] if nothing would be left.
pub fn check_one_remains(
    has_password: bool,
    passkeys: i64,
    identities: i64,
) -> Result<(), PeopleError> {
    if has_password || passkeys > 0 || identities > 0 {
        Ok(())
    } else {
        Err(PeopleError::LastSignInMethod)
    }
}

/// Checks a provider's id: 1 to 40 small letters, digits, `-` or `_`; it is part of an address.
///
/// # Errors
/// [`PeopleError::ProviderId`].
pub fn check_provider_id(text: &str) -> Result<(), PeopleError> {
    if super::roles::is_slug(text) {
        Ok(())
    } else {
        Err(PeopleError::ProviderId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(facts: LinkFacts<'_>) -> LinkDecision {
        facts.decide()
    }

    #[test]
    fn ac_076_an_email_links_only_if_both_sides_verified_it() {
        for (here, there) in [(true, false), (false, true), (false, false)] {
            let facts = LinkFacts {
                email_of: Some(("ada", here)),
                email_verified_there: there,
                sign_up_allowed: true,
                ..LinkFacts::default()
            };
            assert_eq!(
                decide(facts),
                LinkDecision::Refuse(LinkRefusal::SignInToLink)
            );
        }
        let both = LinkFacts {
            email_of: Some(("ada", true)),
            email_verified_there: true,
            ..LinkFacts::default()
        };
        assert_eq!(decide(both), LinkDecision::Link("ada".into()));
    }

    #[test]
    fn s65_mail_alone_is_no_way_around_a_second_factor() {
        let guarded = LinkFacts {
            email_of: Some(("ada", true)),
            email_verified_there: true,
            email_owner_has_more: true,
            sign_up_allowed: true,
            ..LinkFacts::default()
        };
        let refused = LinkDecision::Refuse(LinkRefusal::SignInToLink);
        assert_eq!(decide(guarded), refused);
        // Signed in they may, and what is linked signs in.
        let asked = LinkFacts {
            signed_in_as: Some("ada"),
            ..guarded
        };
        assert_eq!(decide(asked), LinkDecision::Link("ada".into()));
        let linked = LinkFacts {
            linked_to: Some("ada"),
            ..guarded
        };
        assert_eq!(decide(linked), LinkDecision::SignIn("ada".into()));
    }

    #[test]
    fn ac_077_an_identity_has_one_person() {
        let facts = LinkFacts {
            linked_to: Some("ada"),
            signed_in_as: Some("bob"),
            ..LinkFacts::default()
        };
        assert_eq!(
            decide(facts),
            LinkDecision::Refuse(LinkRefusal::IdentityInUse)
        );
        let same = LinkFacts {
            signed_in_as: Some("ada"),
            ..facts
        };
        assert_eq!(decide(same), LinkDecision::SignIn("ada".into()));
        let fresh = LinkFacts {
            signed_in_as: Some("bob"),
            ..LinkFacts::default()
        };
        assert_eq!(decide(fresh), LinkDecision::Link("bob".into()));
    }

    #[test]
    fn strangers_come_in_only_if_they_may() {
        let mut facts = LinkFacts::default();
        assert_eq!(
            decide(facts),
            LinkDecision::Refuse(LinkRefusal::SignUpClosed)
        );
        facts.sign_up_allowed = true;
        assert_eq!(decide(facts), LinkDecision::Create);
    }

    #[test]
    fn s65_one_way_to_sign_in_remains() {
        assert!(check_one_remains(true, 0, 0).is_ok());
        assert!(check_one_remains(false, 1, 0).is_ok());
        assert!(check_one_remains(false, 0, 1).is_ok());
        assert_eq!(
            check_one_remains(false, 0, 0),
            Err(PeopleError::LastSignInMethod)
        );
    }
}
