//! The relay's identity towards Google: a service-account key, and the assertions it signs.

use hyper::Uri;
use hyper::http::uri::Scheme;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// Where Google exchanges assertions for access tokens.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";

/// What the access token is for: sending, and nothing else.
const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";

/// How long an assertion is valid, in seconds. The longest Google takes.
const VALIDITY_S: u64 = 3600;

/// How far our clock may be ahead of Google's, which takes no assertion from the future.
const CLOCK_SKEW_S: u64 = 10;

/// A Google service-account key that can sign. Nothing prints what is in it.
#[derive(Clone)]
pub struct ServiceAccount(Arc<Account>);

struct Account {
    client_email: String,
    key_id: Option<String>,
    key: EncodingKey,
    /// As it was written: it is the assertion's audience, too.
    token_uri: String,
    token_endpoint: Uri,
}

/// The claims of RFC 7523, section 3.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

impl ServiceAccount {
    /// Reads the JSON text that Google's console hands out. Signs once, so that a key that cannot is found here.
    ///
    /// # Errors
    /// Which part cannot be used; never the part itself.
    pub fn parse(json: &str) -> Result<Self, &'static str> {
        let key: Value = serde_json::from_str(json).map_err(|_| "not a JSON object")?;
        let field = |name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default();
        if !key.is_object() {
            return Err("not a JSON object");
        }
        if field("type") != "service_account" {
            return Err("its type is not service_account");
        }
        if field("client_email").is_empty() {
            return Err("it has no client_email");
        }
        let token_uri = match field("token_uri") {
            "" => TOKEN_URI,
            uri => uri,
        };
        let account = Account {
            client_email: field("client_email").to_owned(),
            key_id: Some(field("private_key_id").to_owned()).filter(|id| !id.is_empty()),
            key: rsa_key(field("private_key")).ok_or("its private_key is no RSA key")?,
            token_uri: token_uri.to_owned(),
            token_endpoint: https(token_uri).ok_or("its token_uri is no https URL")?,
        };
        let account = Self(Arc::new(account));
        match account.assertion(0) {
            Some(_) => Ok(account),
            None => Err("its private_key is no RSA key of 2048 to 8192 bits"),
        }
    }

    /// A signed JWT that asks for an access token, at `now` in seconds since 1970. `None`: the key cannot sign.
    pub(super) fn assertion(&self, now: u64) -> Option<String> {
        let account = &*self.0;
        let header = Header {
            kid: account.key_id.clone(),
            ..Header::new(Algorithm::RS256)
        };
        let issued = now.saturating_sub(CLOCK_SKEW_S);
        let claims = Claims {
            iss: &account.client_email,
            scope: SCOPE,
            aud: &account.token_uri,
            iat: issued,
            exp: issued + VALIDITY_S,
        };
        encode(&header, &claims, &account.key).ok()
    }

    /// Where assertions are exchanged.
    pub(super) fn token_endpoint(&self) -> &Uri {
        &self.0.token_endpoint
    }
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceAccount(..)")
    }
}

/// `text` as an absolute https URL without user information.
pub(super) fn https(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let host = uri.authority().is_some_and(|a| !a.as_str().contains('@'));
    (uri.scheme() == Some(&Scheme::HTTPS) && host).then_some(uri)
}

/// PKCS#8 or PKCS#1, in PEM or the bare base64 of its body.
fn rsa_key(text: &str) -> Option<EncodingKey> {
    if text.contains("-----BEGIN ") {
        return EncodingKey::from_rsa_pem(text.as_bytes()).ok();
    }
    let body: String = text.split_whitespace().collect();
    ["PRIVATE KEY", "RSA PRIVATE KEY"].iter().find_map(|kind| {
        let pem = format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n");
        EncodingKey::from_rsa_pem(pem.as_bytes()).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, PublicKeyData as _};

    fn account(key: &str) -> String {
        serde_json::json!({
            "type": "service_account",
            "client_email": "relay@example.com",
            "private_key_id": "key-1",
            "private_key": key,
        })
        .to_string()
    }

    /// The RSA key inside a PKCS#8 document: it is what follows the fixed head for keys of 2048 bits.
    fn pkcs1(pkcs8: &[u8]) -> &[u8] {
        &pkcs8[26..]
    }

    #[test]
    fn a_key_may_be_written_in_four_ways_and_signs_rs256() {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let der = pair.serialized_der();
        let pkcs1 = STANDARD.encode(pkcs1(der));
        let armoured =
            format!("-----BEGIN RSA PRIVATE KEY-----\n{pkcs1}\n-----END RSA PRIVATE KEY-----\n");
        for key in [pair.serialize_pem(), STANDARD.encode(der), pkcs1, armoured] {
            let account = ServiceAccount::parse(&account(&key)).unwrap();
            let jwt = account.assertion(1_000_010).unwrap();
            let (message, signature) = jwt.rsplit_once('.').unwrap();
            let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.der_bytes());
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            public.verify(message.as_bytes(), &signature).unwrap();
            let (header, claims) = message.split_once('.').unwrap();
            let read = |part| -> Value {
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
            };
            let expected = serde_json::json!({"typ": "JWT", "alg": "RS256", "kid": "key-1"});
            assert_eq!(read(header), expected);
            let expected = serde_json::json!({
                "iss": "relay@example.com", "aud": TOKEN_URI, "scope": SCOPE,
                "iat": 1_000_000, "exp": 1_003_600,
            });
            assert_eq!(read(claims), expected);
            assert_eq!(format!("{account:?}"), "ServiceAccount(..)");
        }
    }

    /// Of 1024 bits: Google gives out none, and nobody should use one.
    const SHORT_KEY: &str = "\
        MIICeAIBADANBgkqhkiG9w0BAQEFAASCAmIwggJeAgEAAoGBANsnzy+Vppzq3nBx0yuBXLD9zq+LhWUGalhz4Ft3mEuwNYlbc8T3\
        RWxTZ679cnV09wDFXLhE+Z3RrMU1tgT8VFufrh6kXu6q3jVjnti1yBuhoIb10hI9LGAt2qDpAaHw9vXfvI9aE6pOsnwL13kzt0Fl\
        v4zTmFRJ5Q+CHOhbob6NAgMBAAECgYBr5buhx+IR26jMX54CC1yhXzRFRUHVrUTqa5KINedrTEPvbnEfBkbNwHqJswqJPZ7maETw\
        DDWBN9wB9CG7bqfw0sHskcec0jnQLxvUAPl9+9Vigug2qdL7C1shLsYNcFzaYcYFFUmYM8+XZ9uDBGvl9UXXNUjMzTHWaG568Zt2\
        wQJBAPfYqgmr1ol1mHkVVJGstkPlo5STk2tjomFKLknwPr/9ceFqsGje28MgwVvlRmKsJxyHeDXovcFZA03maVwtlJkCQQDiXYON\
        7KCQ0EKWb6iBHSpjx+Gl3i3wgfJqPoAoWVDcQKmISisE9Oj4ZPCYeEr35aalWc/yHrYsplwxYZ1aU74VAkEA1IZIgFSGeYaKAUIm\
        K2hDPoN6upu1LL/Z7L0UZjiJRk5IybeXn8WCApdi1q8KpO/j9dXAYdG6bUIr0C/EptM6+QJBAI+JxsK3GnXZaW/lK897hAazl3VL\
        Now8ilAug6uSP0D6y8W9ahwBhL0FnL7CAJ/DAvH0ynR4XwJfFzTE9jdxxKUCQQC8ZrYLDR2v0E5vUsLA8LnL6fQkvF6R4DS5oErD\
        wx0SZhbggE5Qasdpqkwz3Q6BRzUxdow7B/R3ZK8/NGo7hMw/";

    #[test]
    fn what_cannot_be_used_is_named_and_not_repeated() {
        let rsa = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let good = account(&rsa.serialize_pem());
        let with_uri = |uri: &str| good.replacen('{', &format!(r#"{{"token_uri":"{uri}","#), 1);
        for (bad, part) in [
            (String::new(), "JSON"),
            ("secret".into(), "JSON"),
            ("[\"secret\"]".into(), "JSON"),
            (account("secret"), "private_key"),
            (account(""), "private_key"),
            (account(&ec.serialize_pem()), "private_key"),
            (account(SHORT_KEY), "2048"),
            (good.replace("service_account", "secret"), "type"),
            (good.replace("relay@example.com", ""), "client_email"),
            (with_uri("http://secret.example/token"), "token_uri"),
            (with_uri("secret"), "token_uri"),
            (with_uri("https://secret@host.example/token"), "token_uri"),
        ] {
            let said = ServiceAccount::parse(&bad).unwrap_err();
            assert!(said.contains(part) && !said.contains("secret"), "{said}");
        }
        assert!(ServiceAccount::parse(&with_uri("https://host.example/token")).is_ok());
    }
}
