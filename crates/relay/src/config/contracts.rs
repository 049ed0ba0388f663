//! What the environment asserts about the deployment. These variables are no settings: a value that is not
//! exactly right is refused instead of being guessed at.

use super::AdminToken;
use super::layers::Variables;
use crate::boot::Refusal;
use crate::observe::log::{Event, Key};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer};
use std::ffi::OsStr;

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contracts {
    pub(crate) production: bool,
    pub(crate) single_instance: bool,
    /// Usable credentials for push are there.
    pub(crate) push: bool,
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
            None => false,
            Some(value) => {
                service_account(value).map_err(|reason| {
                    // The value stays out of it, whatever it is.
                    malformed(FCM_CREDENTIALS, reason).fix(
                        "set it to the JSON text of a Google service-account key with an RSA private key, or unset it",
                    )
                })?;
                true
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

/// Whether `value` is a key that push could sign with. The error names the part that is wrong.
fn service_account(value: &OsStr) -> Result<(), &'static str> {
    let text = value.to_str().ok_or("not UTF-8")?;
    let key: serde_json::Value = serde_json::from_str(text).map_err(|_| "not a JSON object")?;
    let field = |name: &str| key.get(name).and_then(|v| v.as_str()).unwrap_or_default();
    if !key.is_object() {
        return Err("not a JSON object");
    }
    if field("type") != "service_account" {
        return Err("its type is not service_account");
    }
    if field("client_email").is_empty() {
        return Err("it has no client_email");
    }
    match rsa_key(field("private_key")) {
        Some(()) => Ok(()),
        None => Err("its private_key is no RSA key"),
    }
}

/// PKCS#8 or PKCS#1, in PEM or the bare base64 of its body.
fn rsa_key(text: &str) -> Option<()> {
    use base64::Engine as _;
    let candidates: Vec<PrivateKeyDer<'static>> =
        match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
            Ok(PrivateKeyDer::Pkcs8(key)) => vec![PrivateKeyDer::Pkcs8(key)],
            Ok(PrivateKeyDer::Pkcs1(key)) => vec![PrivateKeyDer::Pkcs1(key)],
            Ok(_) => vec![],
            Err(_) => {
                let body: String = text.split_whitespace().collect();
                let der = base64::engine::general_purpose::STANDARD
                    .decode(body)
                    .ok()?;
                vec![
                    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.clone())),
                    PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der)),
                ]
            }
        };
    let is_rsa = |key: &PrivateKeyDer<'_>| {
        rustls::crypto::aws_lc_rs::sign::any_supported_type(key)
            .is_ok_and(|key| key.algorithm() == rustls::SignatureAlgorithm::RSA)
    };
    candidates.iter().any(is_rsa).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};

    fn read(pairs: &[(&str, &str)]) -> Result<Contracts, String> {
        let variables = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).into()));
        Contracts::read(&variables.collect()).map_err(|refusal| refusal.to_string())
    }

    fn account(key: &str) -> String {
        serde_json::json!({
            "type": "service_account",
            "client_email": "relay@example.com",
            "private_key": key,
        })
        .to_string()
    }

    #[test]
    fn an_assertion_is_exactly_1_or_not_there() {
        assert_eq!(read(&[]), Ok(Contracts::default()));
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
        assert!(
            token("correct-horse-battery")
                .unwrap()
                .admin_token
                .is_some()
        );
        assert_eq!(read(&[]).unwrap().admin_token, None);
        for bad in ["", "secret", "secret secret secret"] {
            let said = token(bad).unwrap_err();
            assert!(
                said.contains(ADMIN_TOKEN) && !said.contains("secret"),
                "{said}"
            );
        }
    }

    #[test]
    fn credentials_need_an_rsa_key_and_are_never_repeated() {
        let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let bare = {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.encode(rsa.serialized_der())
        };
        assert!(
            read(&[(FCM_CREDENTIALS, &account(&rsa.serialize_pem()))])
                .unwrap()
                .push
        );
        assert!(read(&[(FCM_CREDENTIALS, &account(&bare))]).unwrap().push);
        for bad in [
            String::new(),
            "secret".into(),
            "[\"secret\"]".into(),
            account("secret"),
            account(&ec.serialize_pem()),
            account(&rsa.serialize_pem()).replace("service_account", "secret"),
            account(&rsa.serialize_pem()).replace("relay@example.com", ""),
        ] {
            let said = read(&[(FCM_CREDENTIALS, &bad)]).unwrap_err();
            assert!(
                said.contains(FCM_CREDENTIALS) && !said.contains("secret"),
                "{said}"
            );
        }
    }
}
