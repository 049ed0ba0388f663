//! Reads the PROXY protocol header in front of a connection.

use relay_proto::proxy::{self, Header, Progress};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Longest header there is, in bytes.
const HEADER_BYTES: usize = proxy::V2_MAX_BYTES;

/// Reads exactly the header and not a byte more. Cancelled in between, the connection is of no use any more.
///
/// # Errors
/// The connection does not start with a valid header, or ends inside it.
pub(crate) async fn read_header(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Header> {
    let mut buffer = [0; HEADER_BYTES];
    let mut filled = 0;
    loop {
        match proxy::parse(&buffer[..filled]).map_err(io::Error::other)? {
            Progress::Complete(header) => return Ok(header),
            Progress::Need(bytes) => {
                let end = (filled + bytes).min(HEADER_BYTES);
                match socket.read(&mut buffer[filled..end]).await? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => filled += read,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    #[tokio::test]
    async fn what_follows_the_header_stays_in_the_stream() {
        let v2 = [
            &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
            &[192, 0, 2, 1, 192, 0, 2, 2, 0, 80, 1, 187],
        ]
        .concat();
        for header in [&b"PROXY TCP4 192.0.2.1 192.0.2.2 80 443\r\n"[..], &v2] {
            let (mut near, mut far) = tokio::io::duplex(4096);
            far.write_all(header).await.unwrap();
            far.write_all(b"GET /").await.unwrap();
            drop(far);
            let source = "192.0.2.1:80".parse().unwrap();
            assert_eq!(
                read_header(&mut near).await.unwrap(),
                Header::Proxied(source)
            );
            let mut rest = Vec::new();
            near.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"GET /");
        }
    }

    #[tokio::test]
    async fn an_end_inside_the_header_is_an_error() {
        let mut cut = &b"PROXY TCP4 192"[..];
        assert!(read_header(&mut cut).await.is_err());
    }
}
