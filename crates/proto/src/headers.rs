//! The request headers by which a peer says who it is.

use std::fmt;

/// The server-id: claimed by a binary, looked for by a phone.
pub const SERVER: &str = "x-pyrycode-server";
/// The binary's version; for logs only.
pub const VERSION: &str = "x-pyrycode-version";
/// The phone's device token. Sent by apps, not required and never read here.
pub const TOKEN: &str = "x-pyrycode-token";
/// The phone's name; optional, for logs only.
pub const DEVICE_NAME: &str = "x-pyrycode-device-name";
/// Optional and secret: stays the same for one process of the binary, so that a returning process
/// can be told from a new one.
pub const INSTANCE: &str = "x-pyrycode-instance";
/// Must be present on both endpoints.
pub const USER_AGENT: &str = "user-agent";

/// A longer server-id or instance is refused, and what else a peer says of itself is cut there. Every connection and slot
/// has copies, and every envelope; the server-ids that exist have 36 bytes (a UUID).
pub const NAME_BYTES: usize = 256;

/// What a binary said in its upgrade request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryHello {
    /// The server-id it claims.
    pub server_id: String,
    /// Its version, for logs.
    pub version: String,
    /// Its process instance, if it sent one.
    pub instance: Option<Secret>,
}

/// What a phone said in its upgrade request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhoneHello {
    /// The server-id it looks for.
    pub server_id: String,
    /// Its name, for logs; empty if it sent none.
    pub device_name: String,
}

/// Bytes that must not be shown: `Debug` hides them. Compare them in constant time.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secret itself.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The secret itself, owned.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A required header is absent or empty, or one isn't text where it must be, or too long: the request gets a 400 without a
/// body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {0} is missing or unusable")]
pub struct UnusableHeader(pub &'static str);

/// Reads a binary's headers. `get` returns the first value of the named header (lower case).
///
/// Blanks around a value don't count, and an empty value is a missing one. A server-id is UTF-8, so
/// that different ones stay different; elsewhere bytes that aren't become U+FFFD.
///
/// # Errors
/// [`UnusableHeader`] names the first of server, version, user-agent that is missing, or the server or the instance.
pub fn binary_hello<'a>(
    get: impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<BinaryHello, UnusableHeader> {
    let server_id = server_id(&get)?;
    let version = text(required(&get, VERSION)?);
    required(&get, USER_AGENT)?;
    let instance = present(&get, INSTANCE);
    if instance.is_some_and(|value| value.len() > NAME_BYTES) {
        return Err(UnusableHeader(INSTANCE));
    }
    Ok(BinaryHello {
        server_id,
        version,
        instance: instance.map(|value| Secret(value.to_vec())),
    })
}

/// Reads a phone's headers, as [`binary_hello`] does a binary's.
///
/// # Errors
/// [`UnusableHeader`] names the first of server, user-agent that is missing, or the server. The token
/// isn't looked at.
pub fn phone_hello<'a>(
    get: impl Fn(&str) -> Option<&'a [u8]>,
) -> Result<PhoneHello, UnusableHeader> {
    let server_id = server_id(&get)?;
    required(&get, USER_AGENT)?;
    let device_name = present(&get, DEVICE_NAME).map(text).unwrap_or_default();
    Ok(PhoneHello {
        server_id,
        device_name,
    })
}

fn server_id<'a>(get: &impl Fn(&str) -> Option<&'a [u8]>) -> Result<String, UnusableHeader> {
    match std::str::from_utf8(required(get, SERVER)?) {
        Ok(id) if id.len() <= NAME_BYTES => Ok(id.to_owned()),
        _ => Err(UnusableHeader(SERVER)),
    }
}

fn required<'a>(
    get: &impl Fn(&str) -> Option<&'a [u8]>,
    name: &'static str,
) -> Result<&'a [u8], UnusableHeader> {
    present(get, name).ok_or(UnusableHeader(name))
}

fn present<'a>(get: &impl Fn(&str) -> Option<&'a [u8]>, name: &str) -> Option<&'a [u8]> {
    get(name).map(trim_blanks).filter(|value| !value.is_empty())
}

/// What somebody says of itself, as far as it is kept.
fn text(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let (kept, _) = text.split_at(text.floor_char_boundary(NAME_BYTES));
    kept.to_owned()
}

/// Without the spaces and tabs at both ends (the optional whitespace of RFC 9110 §5.6.3).
pub(crate) fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a [u8])];

    fn lookup<'a>(pairs: Pairs<'a>) -> impl Fn(&str) -> Option<&'a [u8]> {
        move |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }

    const BINARY: Pairs<'_> = &[
        (SERVER, b" id \t"),
        (VERSION, b"1.2"),
        (USER_AGENT, b"pyry/1.2"),
        (INSTANCE, b"s3cret"),
    ];

    #[test]
    fn a_binary_says_who_it_is() {
        let hello = binary_hello(lookup(BINARY)).unwrap();
        assert_eq!(
            (hello.server_id.as_str(), hello.version.as_str()),
            ("id", "1.2")
        );
        assert_eq!(hello.instance.as_ref().unwrap().as_bytes(), b"s3cret");
        assert!(!format!("{hello:?}").contains("s3cret"));
        assert_eq!(hello.instance.unwrap().into_bytes(), b"s3cret");
        assert_eq!(binary_hello(lookup(&BINARY[..3])).unwrap().instance, None);
    }

    #[test]
    fn each_required_header_is_required() {
        for (i, name) in [SERVER, VERSION, USER_AGENT].into_iter().enumerate() {
            for value in [&b""[..], b" \t "] {
                let mut pairs = BINARY.to_vec();
                pairs[i].1 = value;
                assert_eq!(binary_hello(lookup(&pairs)), Err(UnusableHeader(name)));
            }
            let mut pairs = BINARY.to_vec();
            pairs.remove(i);
            assert_eq!(binary_hello(lookup(&pairs)), Err(UnusableHeader(name)));
        }
        assert_eq!(
            phone_hello(lookup(&[(USER_AGENT, b"x")])),
            Err(UnusableHeader(SERVER))
        );
        assert_eq!(
            phone_hello(lookup(&[(SERVER, b"x")])),
            Err(UnusableHeader(USER_AGENT))
        );
    }

    #[test]
    fn a_phone_needs_no_token_and_may_have_a_name() {
        let pairs: Pairs<'_> = &[(SERVER, b"id"), (USER_AGENT, b"app")];
        let nameless = PhoneHello {
            server_id: "id".into(),
            device_name: String::new(),
        };
        assert_eq!(phone_hello(lookup(pairs)), Ok(nameless));
        let pairs: Pairs<'_> = &[
            (SERVER, b"id"),
            (USER_AGENT, b"app"),
            (DEVICE_NAME, b" P\xff8 "),
        ];
        let named = PhoneHello {
            server_id: "id".into(),
            device_name: "P\u{fffd}8".into(),
        };
        assert_eq!(phone_hello(lookup(pairs)), Ok(named));
    }

    #[test]
    fn names_are_bounded() {
        let more = &[b'n'; NAME_BYTES + 1][..];
        let most = &more[1..];
        let with = |at: usize, value| {
            let mut pairs = BINARY.to_vec();
            pairs[at].1 = value;
            binary_hello(lookup(&pairs))
        };
        assert_eq!(with(0, most).unwrap().server_id.as_bytes(), most);
        assert_eq!(with(0, more), Err(UnusableHeader(SERVER)));
        assert_eq!(with(3, most).unwrap().instance, Some(Secret(most.to_vec())));
        assert_eq!(with(3, more), Err(UnusableHeader(INSTANCE)));
        assert_eq!(with(1, more).unwrap().version.as_bytes(), most);
        let split = [most, "é".as_bytes()].concat();
        assert_eq!(with(1, &split[1..]).unwrap().version.as_bytes(), &most[1..]);
        let broken = with(1, &[0xff; NAME_BYTES]).unwrap().version;
        assert_eq!(broken, "\u{fffd}".repeat(NAME_BYTES / 3));
    }

    /// With U+FFFD for what isn't, different ones would be one slot.
    #[test]
    fn a_server_id_is_utf_8() {
        for (id, is_text) in [
            (&b"h\xc3\xa9"[..], true),
            (b"h\xe9", false),
            (b"\xff", false),
        ] {
            let mut pairs = BINARY.to_vec();
            pairs[0].1 = id;
            let binary = binary_hello(lookup(&pairs)).map(|hello| hello.server_id);
            let phone = phone_hello(lookup(&pairs)).map(|hello| hello.server_id);
            assert_eq!(binary, phone);
            match is_text {
                true => assert_eq!(binary.unwrap().as_bytes(), id),
                false => assert_eq!(binary, Err(UnusableHeader(SERVER))),
            }
        }
    }
}
