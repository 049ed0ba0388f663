//! Frame headers (RFC 6455 §5.2).

use super::{Error, MAX_CONTROL_BYTES, MAX_HEADER_BYTES, Role, opcode};

/// A frame header that is well-formed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) opcode: u8,
    /// All zero where the role receives no mask: unmasking is then a no-op, and skipped.
    pub(super) key: [u8; 4],
    pub(super) payload_bytes: u64,
}

impl Header {
    pub(super) fn is_control(&self) -> bool {
        self.opcode >= opcode::CLOSE
    }
}

/// A header that is arriving.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial {
    bytes: [u8; MAX_HEADER_BYTES],
    len: u8,
}

impl Partial {
    pub(super) const EMPTY: Self = Self {
        bytes: [0; MAX_HEADER_BYTES],
        len: 0,
    };

    /// Takes bytes from the front of `input` until the header is complete. Returns it together
    /// with the number of bytes taken. `Ok(None)`: all of `input` was taken.
    pub(super) fn take(
        &mut self,
        input: &[u8],
        role: Role,
    ) -> Result<Option<(Header, usize)>, Error> {
        if self.len == 0
            && let Some((header, len)) = parse(input, role)?
        {
            return Ok(Some((header, len)));
        }
        let had = usize::from(self.len);
        let new = input.len().min(MAX_HEADER_BYTES - had);
        self.bytes[had..had + new].copy_from_slice(&input[..new]);
        if let Some((header, len)) = parse(&self.bytes[..had + new], role)? {
            *self = Self::EMPTY;
            return Ok(Some((header, len - had)));
        }
        // No header is longer than the buffer, so an incomplete one left room for all of `input`.
        self.len = (had + new) as u8;
        Ok(None)
    }
}

/// Parses a header at the front of `bytes`, and says how long it is. Speaks up as soon as the bytes
/// that show a violation are there. `Ok(None)`: incomplete.
fn parse(bytes: &[u8], role: Role) -> Result<Option<(Header, usize)>, Error> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    let fin = first & 0x80 != 0;
    let opcode = first & 0x0f;
    let masked = second & 0x80 != 0;
    let short = second & 0x7f;
    check(first, masked, short, role)?;

    let length_bytes = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some((length, rest)) = rest.split_at_checked(length_bytes) else {
        return Ok(None);
    };
    let payload_bytes = match length_bytes {
        0 => u64::from(short),
        _ => length.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)),
    };
    match (short, payload_bytes) {
        (126, 0..126) | (127, 0..=0xffff) => {
            return Err(Error::Protocol("payload length not in its shortest form"));
        }
        (127, n) if n >> 63 != 0 => return Err(Error::Protocol("payload length over 63 bits")),
        _ => {}
    }

    let mut len = 2 + length_bytes;
    let mut key = [0; 4];
    if masked {
        let Some(sent) = rest.first_chunk() else {
            return Ok(None);
        };
        key = *sent;
        len += key.len();
    }
    Ok(Some((
        Header {
            fin,
            opcode,
            key,
            payload_bytes,
        },
        len,
    )))
}

/// The rules that the first two bytes can break.
fn check(first: u8, masked: bool, short: u8, role: Role) -> Result<(), Error> {
    let fin = first & 0x80 != 0;
    if first & 0x70 != 0 {
        return Err(Error::Protocol("reserved bits set"));
    }
    match first & 0x0f {
        opcode::CONTINUATION | opcode::TEXT | opcode::BINARY => {}
        opcode::CLOSE | opcode::PING | opcode::PONG if !fin => {
            return Err(Error::Protocol("fragmented control frame"));
        }
        opcode::CLOSE | opcode::PING | opcode::PONG if usize::from(short) > MAX_CONTROL_BYTES => {
            return Err(Error::Protocol("control frame too long"));
        }
        opcode::CLOSE | opcode::PING | opcode::PONG => {}
        _ => return Err(Error::Protocol("unknown opcode")),
    }
    match (role, masked) {
        (Role::Server, false) => Err(Error::Protocol("unmasked frame from a client")),
        (Role::Client, true) => Err(Error::Protocol("masked frame from a server")),
        _ => Ok(()),
    }
}
