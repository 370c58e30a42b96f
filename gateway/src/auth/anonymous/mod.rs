//! Lets clients in without a check where the configuration says so, and refuses them where it does not.

use tidegate_codec::ReasonCode;

use super::{Authenticator, Credentials, Policy, Verdict};

/// The last in the list: it always decides.
#[derive(Clone, Copy, Debug)]
pub struct Anonymous;

impl Authenticator for Anonymous {
    fn kind(&self) -> &'static str {
        "anonymous"
    }

    /// Credentials that nobody before could check are as good as none where anonymous clients are welcome. Where
    /// they are not, a client that showed some is told that they are wrong, one without that it may not come in.
    fn authenticate(&self, policy: &Policy, credentials: &Credentials<'_>) -> Verdict {
        if policy.allow_anonymous {
            return Verdict::Admit;
        }
        match credentials.user_name.is_some() || credentials.password.is_some() {
            true => Verdict::Refuse(ReasonCode::BadUserNameOrPassword),
            false => Verdict::Refuse(ReasonCode::NotAuthorized),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{authenticate, Refusal};
    use super::*;

    fn verdict(allow_anonymous: bool, user_name: Option<&str>) -> Result<(), Refusal> {
        let credentials = Credentials {
            client_id: "c",
            user_name,
            password: None,
        };
        authenticate(&Policy { allow_anonymous }, &credentials)
    }

    #[test]
    fn clients_come_in_where_anonymous_ones_are_welcome() {
        assert_eq!(verdict(true, None), Ok(()));
        assert_eq!(verdict(true, Some("user")), Ok(()));
    }

    #[test]
    fn without_a_check_that_admits_everyone_is_refused() {
        let refused = |reason| {
            Err(Refusal {
                kind: "anonymous",
                reason,
            })
        };
        assert_eq!(verdict(false, None), refused(ReasonCode::NotAuthorized));
        assert_eq!(
            verdict(false, Some("user")),
            refused(ReasonCode::BadUserNameOrPassword)
        );
    }
}
