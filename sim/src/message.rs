//! What daemons and phones say to each other: who, which session, which number in it, and padding that follows from these.

use serde_json::Value;

/// A session: one connection of one phone, by their numbers.
pub type Session = (usize, u64);

/// A phone's frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Up {
    /// Whose.
    pub session: Session,
    /// 0 for the first of the session.
    pub number: u64,
    /// Bytes of padding.
    pub pad: usize,
}

/// A daemon's frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// For whom.
    pub session: Session,
    /// The process that sends it.
    pub process: u64,
    /// 0 for the first of the session.
    pub number: u64,
    /// The first number that was sent on the daemon's present connection.
    pub since: u64,
    /// The frame that this one answers.
    pub answers: Option<u64>,
    /// Bytes of padding.
    pub pad: usize,
}

fn pad(number: u64, bytes: usize) -> String {
    let letter = b'a' + (number % 26) as u8;
    char::from(letter).to_string().repeat(bytes)
}

impl Up {
    /// As it is sent.
    pub fn text(&self) -> String {
        let Self {
            session: (phone, session),
            number,
            pad: bytes,
        } = self;
        let pad = pad(*number, *bytes);
        format!(r#"{{"p":{phone},"s":{session},"n":{number},"pad":"{pad}"}}"#)
    }

    /// Reads it, and checks that every byte is as it was sent.
    pub fn read(text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let up = Self {
            session: session(&value)?,
            number: value["n"].as_u64()?,
            pad: value["pad"].as_str()?.len(),
        };
        (up.text().as_bytes() == text).then_some(up)
    }
}

impl Down {
    /// As it is sent.
    pub fn text(&self) -> String {
        let Self {
            session: (phone, session),
            process,
            number,
            since,
            answers,
            pad: bytes,
        } = self;
        let answers = answers.map_or("null".to_owned(), |number| number.to_string());
        let pad = pad(*number, *bytes);
        format!(
            r#"{{"p":{phone},"s":{session},"d":{process},"n":{number},"since":{since},"answers":{answers},"pad":"{pad}"}}"#
        )
    }

    /// Reads it, and checks that every byte is as it was sent.
    pub fn read(text: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(text).ok()?;
        let down = Self {
            session: session(&value)?,
            process: value["d"].as_u64()?,
            number: value["n"].as_u64()?,
            since: value["since"].as_u64()?,
            answers: value["answers"].as_u64(),
            pad: value["pad"].as_str()?.len(),
        };
        (down.text().as_bytes() == text).then_some(down)
    }
}

fn session(value: &Value) -> Option<Session> {
    let phone = usize::try_from(value["p"].as_u64()?).ok()?;
    Some((phone, value["s"].as_u64()?))
}
