//! The PROXY header against `proxy-header`, whose encoder and decoder are complete but read from a whole buffer.

use proxy_header::{ParseConfig, ProxyHeader};
use relay_proto::proxy::{Error, Header, Progress, V1_MAX_BYTES, V2_MAX_BYTES, parse};

/// Reads a header from `stream` as a connection's reader does, taking no more than is asked for. Returns it and how
/// many bytes it took, or None if the stream ends within it.
pub(crate) fn read(stream: &[u8]) -> Result<Option<(Header, usize)>, Error> {
    let mut taken_bytes = 0;
    loop {
        match parse(&stream[..taken_bytes])? {
            Progress::Complete(header) => return Ok(Some((header, taken_bytes))),
            Progress::Need(n) => {
                assert_ne!(n, 0, "a reader that goes in circles");
                taken_bytes += n;
                assert!(taken_bytes <= V1_MAX_BYTES.max(V2_MAX_BYTES));
            }
        }
        if taken_bytes > stream.len() {
            return Ok(None);
        }
    }
}

/// What is accepted is what the library reads, to the byte; and it doesn't matter how it is cut.
pub(crate) fn compare(stream: &[u8]) {
    let read = read(stream);
    let whole = parse(stream);
    match read {
        Ok(Some((header, _))) => assert_eq!(whole, Ok(Progress::Complete(header))),
        Ok(None) => assert!(matches!(whole, Ok(Progress::Need(_)) | Err(_))),
        Err(error) => assert_eq!(whole, Err(error)),
    }
    let Ok(Some((Header::Proxied(source), taken_bytes))) = read else {
        return;
    };
    let (theirs, used_bytes) = ProxyHeader::parse(stream, ParseConfig::default()).unwrap();
    let theirs = theirs.proxied_address().unwrap();
    assert_eq!(taken_bytes, used_bytes);
    assert_eq!(source.ip(), theirs.source.ip().to_canonical());
    assert_eq!(source.port(), theirs.source.port());
}
