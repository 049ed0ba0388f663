//! The encryption above the relay, in the shape of protocol v2: Noise_IK in JSON frames
//! `{"v":2,"type":"noise_init"|"noise_resp"|"noise_msg","data":"<base64>"}`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use snow::{Builder, HandshakeState, Keypair, TransportState};

const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
/// The longest Noise message.
const MESSAGE_BYTES: usize = 65_535;

/// Why a frame was not understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoiseError {
    #[error("{0}")]
    Noise(#[from] snow::Error),
    #[error("not a frame of protocol v2")]
    Frame,
}

#[derive(Serialize, Deserialize)]
struct Frame {
    v: u8,
    #[serde(rename = "type")]
    kind: String,
    data: String,
}

/// A frame's kind and the Noise message in it.
pub(super) fn open_frame(frame: &[u8]) -> Result<(String, Vec<u8>), NoiseError> {
    let frame: Frame = serde_json::from_slice(frame).map_err(|_| NoiseError::Frame)?;
    let data = STANDARD
        .decode(&frame.data)
        .map_err(|_| NoiseError::Frame)?;
    Ok((frame.kind, data))
}

fn frame(kind: &str, data: &[u8]) -> Vec<u8> {
    format!(
        r#"{{"v":2,"type":"{kind}","data":"{}"}}"#,
        STANDARD.encode(data)
    )
    .into_bytes()
}

fn builder<'a>() -> Result<Builder<'a>, NoiseError> {
    // The pattern is a constant that the tests parse.
    Ok(Builder::new(PATTERN.parse()?))
}

/// A fresh static key.
pub(super) fn keys() -> Result<Keypair, NoiseError> {
    Ok(builder()?.generate_keypair()?)
}

/// A phone's handshake under way.
pub(super) struct Handshake(HandshakeState);

impl Handshake {
    /// Starts: the phone knows the daemon's public key from pairing. Returns the `noise_init` frame.
    pub(super) fn start(
        own: &Keypair,
        daemon_public: &[u8],
    ) -> Result<(Self, Vec<u8>), NoiseError> {
        let builder = builder()?.local_private_key(&own.private)?;
        let mut state = builder
            .remote_public_key(daemon_public)?
            .build_initiator()?;
        let mut out = vec![0; MESSAGE_BYTES];
        let length = state.write_message(&[], &mut out)?;
        Ok((Self(state), frame("noise_init", &out[..length])))
    }

    /// Ends it with the Noise message of a `noise_resp`.
    pub(super) fn finish(mut self, message: &[u8]) -> Result<Session, NoiseError> {
        self.0.read_message(message, &mut vec![0; MESSAGE_BYTES])?;
        Ok(Session(self.0.into_transport_mode()?))
    }
}

/// A daemon's answer to the Noise message of a `noise_init`: the session and the `noise_resp` frame.
pub(super) fn respond(own: &[u8], message: &[u8]) -> Result<(Session, Vec<u8>), NoiseError> {
    let mut state = builder()?.local_private_key(own)?.build_responder()?;
    state.read_message(message, &mut vec![0; MESSAGE_BYTES])?;
    let mut out = vec![0; MESSAGE_BYTES];
    let length = state.write_message(&[], &mut out)?;
    Ok((
        Session(state.into_transport_mode()?),
        frame("noise_resp", &out[..length]),
    ))
}

/// An established session: every message in order, none lost, or it is of no use any more.
pub(super) struct Session(TransportState);

impl Session {
    /// The `noise_msg` frame for a text.
    pub(super) fn seal(&mut self, text: &str) -> Result<Vec<u8>, NoiseError> {
        let mut out = vec![0; text.len() + 16];
        let length = self.0.write_message(text.as_bytes(), &mut out)?;
        Ok(frame("noise_msg", &out[..length]))
    }

    /// The text in the Noise message of a `noise_msg`.
    pub(super) fn open(&mut self, message: &[u8]) -> Result<String, NoiseError> {
        let mut out = vec![0; message.len()];
        let length = self.0.read_message(message, &mut out)?;
        Ok(String::from_utf8_lossy(&out[..length]).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_understand_each_other_and_nobody_else() {
        let (phone, daemon, stranger) = (keys().unwrap(), keys().unwrap(), keys().unwrap());
        let (handshake, init) = Handshake::start(&phone, &daemon.public).unwrap();
        let (kind, message) = open_frame(&init).unwrap();
        assert_eq!(kind, "noise_init");
        assert!(respond(&stranger.private, &message).is_err());
        let (mut there, resp) = respond(&daemon.private, &message).unwrap();
        let mut here = handshake.finish(&open_frame(&resp).unwrap().1).unwrap();

        let sealed = here.seal("a word").unwrap();
        assert!(
            !String::from_utf8(sealed.clone())
                .unwrap()
                .contains("a word")
        );
        let (kind, message) = open_frame(&sealed).unwrap();
        assert_eq!(
            (kind.as_str(), there.open(&message).unwrap().as_str()),
            ("noise_msg", "a word")
        );
        assert!(
            there.open(&message).is_err(),
            "a repeated message must not open"
        );
    }
}
