//! What the environment asserts about the deployment. These variables are no settings: a value that is not
//! exactly right is refused instead of being guessed at.

use super::AdminToken;
use super::layers::Variables;
use crate::boot::Refusal;
use crate::observe::log::{Event, Key};
use crate::push::ServiceAccount;

/// Asserts that this is a public deployment: insecure settings and privileges are refused.
pub(crate) const PRODUCTION: &str = "PYRYCODE_RELAY_PRODUCTION";

/// Asserts that only one instance runs, where the platform could start several.
pub(crate) const SINGLE_INSTANCE: &str = "PYRYCODE_RELAY_SINGLE_INSTANCE";

/// A Google service-account key, for push.
pub(crate) const FCM_CREDENTIALS: &str = "PYRYCODE_RELAY_FCM_CREDENTIALS";

/// What closing a slot or a phone on the admin page takes.
pub(crate) const ADMIN_TOKEN: &str = "PYRYCODE_RELAY_ADMIN_TOKEN";

/// Set by a platform that can start several instances.
const FLY_APP_NAME: &str = "FLY_APP_NAME";

/// The deployment, as its environment describes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contracts {
    pub(crate) production: bool,
    pub(crate) single_instance: bool,
    /// Credentials for push; without them it is off.
    pub(crate) push: Option<ServiceAccount>,
    /// The platform can start several instances.
    pub(crate) scales_out: bool,
    pub(crate) admin_token: Option<AdminToken>,
}

impl Contracts {
    /// # Errors
    /// The first variable whose value cannot be used.
    pub(crate) fn read(variables: &Variables) -> Result<Self, Refusal> {
        let production = asserted(variables, PRODUCTION)?;
        let single_instance = asserted(variables, SINGLE_INSTANCE)?;
        let push = match variables.get(FCM_CREDENTIALS) {
            None => None,
            Some(value) => {
                let account = value.to_str().ok_or("not UTF-8");
                let account = account.and_then(ServiceAccount::parse).map_err(|reason| {
                    // The value stays out of it, whatever it is.
                    malformed(FCM_CREDENTIALS, reason).fix(
                        "set it to the JSON text of a Google service-account key with an RSA private key, or unset it",
                    )
                })?;
                Some(account)
            }
        };
        let admin_token = variables.get(ADMIN_TOKEN).map(|value| {
            AdminToken::new(value).map_err(|reason| {
                malformed(ADMIN_TOKEN, reason).fix(
                    "set it to at least 16 printable ASCII characters, or unset it for a random one",
                )
            })
        });
        let admin_token = admin_token.transpose()?;
        let scales_out = variables
            .get(FLY_APP_NAME)
            .is_some_and(|name| !name.is_empty());
        Ok(Self {
            production,
            single_instance,
            push,
            scales_out,
            admin_token,
        })
    }
}

fn malformed(variable: &str, reason: &str) -> Refusal {
    Refusal::new(Event::RefusedEnvironment)
        .with(Key::Err, format!("{variable} cannot be used"))
        .with(Key::EnvVar, variable)
        .with(Key::Reason, format!("malformed-value: {reason}"))
}

fn asserted(variables: &Variables, name: &str) -> Result<bool, Refusal> {
    match variables.get(name) {
        None => Ok(false),
        Some(value) if value == "1" => Ok(true),
        Some(value) => Err(malformed(name, &format!("{value:?} is not \"1\""))
            .fix(format!("set {name} to 1, or unset it"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Contracts, String> {
        let variables = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).into()));
        Contracts::read(&variables.collect()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn an_assertion_is_exactly_1_or_not_there() {
        let none = read(&[]).unwrap();
        assert!(!none.production && !none.single_instance && none.push.is_none());
        assert!(read(&[(PRODUCTION, "1")]).unwrap().production);
        for bad in ["", "true", "0", " 1"] {
            let said = read(&[(SINGLE_INSTANCE, bad)]).unwrap_err();
            assert!(said.contains(SINGLE_INSTANCE), "{said}");
        }
        assert!(read(&[("FLY_APP_NAME", "a")]).unwrap().scales_out);
        assert!(!read(&[("FLY_APP_NAME", "")]).unwrap().scales_out);
    }

    #[test]
    fn an_admin_token_that_cannot_be_used_is_not_repeated() {
        let token = |value| read(&[(ADMIN_TOKEN, value)]);
        let good = token("correct-horse-battery").unwrap();
        assert!(good.admin_token.is_some());
        assert!(read(&[]).unwrap().admin_token.is_none());
        for bad in ["", "secret", "secret secret secret"] {
            let said = token(bad).unwrap_err();
            assert!(
                said.contains(ADMIN_TOKEN) && !said.contains("secret"),
                "{said}"
            );
        }
    }

    #[test]
    fn credentials_are_usable_or_not_there_and_never_repeated() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let account = serde_json::json!({
            "type": "service_account",
            "client_email": "relay@example.com",
            "private_key": key.serialize_pem(),
        });
        let good = account.to_string();
        assert!(read(&[(FCM_CREDENTIALS, &good)]).unwrap().push.is_some());
        for bad in ["", "secret", &good.replace("service_account", "secret")] {
            let said = read(&[(FCM_CREDENTIALS, bad)]).unwrap_err();
            assert!(
                said.contains(FCM_CREDENTIALS) && !said.contains("secret"),
                "{said}"
            );
        }
    }
}
