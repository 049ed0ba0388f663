//! Listen addresses, checked before anything is bound.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// A `host:port` to listen on. An empty host means every interface, IPv6 and IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    host: String,
    port: u16,
}

/// Why an address cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `:port` at the end.
    #[error("has no port; write host:port, for example 127.0.0.1:8080 or :8080")]
    NoPort,
    /// The port is not a number from 1 to 65535.
    #[error("has no usable port; write a number from 1 to 65535")]
    Port,
    /// A host that is not a loopback IP literal, where only that is safe.
    #[error("is not a loopback IP address; write 127.0.0.1:9090 or [::1]:9090")]
    NotLoopback,
}

fn split(text: &str) -> Result<(&str, u16), AddressError> {
    let (host, port) = text.rsplit_once(':').ok_or(AddressError::NoPort)?;
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(AddressError::NoPort);
    }
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AddressError::Port);
    }
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    Ok((host, port.parse().map_err(|_| AddressError::Port)?))
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match split(text)? {
            (_, 0) => Err(AddressError::Port),
            (host, port) => Ok(Self {
                host: host.to_owned(),
                port,
            }),
        }
    }
}

impl ListenAddress {
    /// Like [`str::parse`], but port 0 is allowed: the system picks one.
    pub fn with_any_port(text: &str) -> Result<Self, AddressError> {
        split(text).map(|(host, port)| Self {
            host: host.to_owned(),
            port,
        })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The socket addresses it stands for, in the order in which binding is to be tried: of a name, as in Go, those of
    /// IPv4 first.
    pub async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        if self.host.is_empty() {
            let any = [
                IpAddr::from(Ipv6Addr::UNSPECIFIED),
                IpAddr::from([0, 0, 0, 0]),
            ];
            return Ok(any.map(|ip| SocketAddr::new(ip, self.port)).to_vec());
        }
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        Ok(ipv4_first(found))
    }
}

fn ipv4_first(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found
}

/// The address of the metrics listener: a loopback IP literal with a port; an empty text means none.
pub fn metrics_address(text: &str) -> Result<Option<SocketAddr>, AddressError> {
    if text.is_empty() {
        return Ok(None);
    }
    let (host, port) = split(text)?;
    let ip: IpAddr = host.parse().map_err(|_| AddressError::NotLoopback)?;
    match (ip.is_loopback(), port) {
        (false, _) => Err(AddressError::NotLoopback),
        (true, 0) => Err(AddressError::Port),
        (true, port) => Ok(Some(SocketAddr::new(ip, port))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `localhost` is often `::1` first, and proxies ask 127.0.0.1.
    #[test]
    fn a_name_is_bound_for_ipv4_where_it_has_that() {
        let [six, four, other] =
            ["[::1]:1", "127.0.0.1:1", "127.0.0.2:1"].map(|a| a.parse().unwrap());
        let found = ipv4_first([six, four, other].into_iter());
        assert_eq!(found, [four, other, six]);
    }

    #[test]
    fn a_listen_address_needs_a_numeric_port() {
        assert!("127.0.0.1:8080".parse::<ListenAddress>().is_ok());
        assert!("[::1]:8080".parse::<ListenAddress>().is_ok());
        assert!(":8080".parse::<ListenAddress>().is_ok());
        assert_eq!(
            "127.0.0.1".parse::<ListenAddress>(),
            Err(AddressError::NoPort)
        );
        assert_eq!("::1".parse::<ListenAddress>(), Err(AddressError::NoPort));
        for bad in [
            "127.0.0.1:http",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "127.0.0.1:",
            "h:+80",
        ] {
            assert_eq!(
                bad.parse::<ListenAddress>(),
                Err(AddressError::Port),
                "{bad}"
            );
        }
    }

    #[test]
    fn metrics_listen_only_on_loopback() {
        assert_eq!(metrics_address(""), Ok(None));
        assert!(metrics_address("127.0.0.1:9090").is_ok_and(|a| a.is_some()));
        assert!(metrics_address("127.9.9.9:9090").is_ok());
        assert!(metrics_address("[::1]:9090").is_ok());
        for bad in ["localhost:9090", "0.0.0.0:9090", ":9090", "10.0.0.1:9090"] {
            assert_eq!(
                metrics_address(bad),
                Err(AddressError::NotLoopback),
                "{bad}"
            );
        }
        assert_eq!(metrics_address("127.0.0.1:0"), Err(AddressError::Port));
    }
}
