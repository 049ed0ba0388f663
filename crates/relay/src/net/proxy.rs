//! Reads the PROXY protocol header in front of a connection.

use relay_proto::proxy::{self, Header, Progress};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes read at once at the most: all that has to be seen of a header, and of what is ignored a good piece.
const BUFFER_BYTES: usize = 512;
// Checked when this is built.
const _: () = assert!(BUFFER_BYTES >= proxy::SHOWN_MAX_BYTES);

/// Reads exactly the header and not a byte more. `None`: the connection ended before it, as those do by which load balancers
/// look. Cancelled in between, the connection is of no use any more.
///
/// # Errors
/// The connection does not start with a valid header, or ends inside it.
pub(crate) async fn read_header(
    socket: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<Header>> {
    let mut buffer = [0; BUFFER_BYTES];
    let mut filled = 0;
    loop {
        match proxy::parse(&buffer[..filled]).map_err(io::Error::other)? {
            Progress::Complete(header) => return Ok(Some(header)),
            Progress::Skip(header, mut bytes) => {
                while bytes > 0 {
                    bytes -= read(socket, &mut buffer[..bytes.min(BUFFER_BYTES)]).await?;
                }
                return Ok(Some(header));
            }
            Progress::Need(bytes) => {
                let end = (filled + bytes).min(BUFFER_BYTES);
                match read(socket, &mut buffer[filled..end]).await {
                    Ok(bytes) => filled += bytes,
                    Err(_) if filled == 0 => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

/// Reads some bytes, of which there must be one.
async fn read(socket: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> io::Result<usize> {
    match socket.read(buffer).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        bytes => Ok(bytes),
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
        let mut longest = [&v2[..], &[7; 4_096 - 12]].concat();
        longest[14..16].copy_from_slice(&4_096_u16.to_be_bytes());
        for header in [
            &b"PROXY TCP4 192.0.2.1 192.0.2.2 80 443\r\n"[..],
            &v2,
            &longest,
        ] {
            let (mut near, mut far) = tokio::io::duplex(8_192);
            far.write_all(header).await.unwrap();
            far.write_all(b"GET /").await.unwrap();
            drop(far);
            let source = "192.0.2.1:80".parse().unwrap();
            assert_eq!(
                read_header(&mut near).await.unwrap(),
                Some(Header::Proxied(source))
            );
            let mut rest = Vec::new();
            near.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"GET /");
        }
    }

    #[tokio::test]
    async fn an_end_inside_the_header_is_an_error() {
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x05TLVs";
        for mut cut in [&b"PROXY TCP4 192"[..], local] {
            assert!(read_header(&mut cut).await.is_err());
        }
        assert_eq!(read_header(&mut &b""[..]).await.unwrap(), None);
    }
}
