//! Who may talk to the admin page. It trusts everybody on this machine to look, so what must be kept out is a web page
//! of somebody else in a browser on this machine, or at the other end of a tunnel: by another site's requests (CSRF),
//! or by a name of its own that resolves to loopback (DNS rebinding).

use hyper::header::{HOST, HeaderMap, HeaderName};
use std::net::IpAddr;

/// Browsers say with it where a request comes from; scripts cannot set it.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is not looked at, in a sentence for its sender.
pub(super) type Foreign = &'static str;

/// Whether a request is from here. `authority` is that of an absolute target.
pub(super) fn check(headers: &HeaderMap, authority: Option<&str>) -> Result<(), Foreign> {
    const HOST_FIX: Foreign =
        "this page is only for localhost, 127.0.0.1 or [::1]; open it under one of these names";
    let hosts: Vec<_> = headers.get_all(HOST).iter().collect();
    let [host] = hosts[..] else {
        return Err(HOST_FIX);
    };
    let named = host.to_str().unwrap_or_default();
    if !is_local(named) || !authority.is_none_or(is_local) {
        return Err(HOST_FIX);
    }
    let own = |site: &[u8]| matches!(site, b"same-origin" | b"none");
    let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
    if !sites.all(|site| own(site.as_bytes())) {
        return Err("a page of another site asked for this; open it from the address bar");
    }
    Ok(())
}

/// Whether `host`, with or without a port, can only be this machine: a literal, which nobody can make resolve to
/// something else, or `localhost`. Any port, for those who come through a tunnel.
fn is_local(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((literal, port)) => (literal, port),
            None => return false,
        },
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok() && !port.starts_with('+');
    if !(port.is_empty() || port.strip_prefix(':').is_some_and(is_port)) {
        return false;
    }
    match name.parse::<IpAddr>() {
        Ok(ip) => ip.is_ipv6() == host.starts_with('[') && ip.to_canonical().is_loopback(),
        Err(_) => !host.starts_with('[') && name.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn only_names_that_mean_this_machine_are_local() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:9090",
            "127.8.9.10:80",
            "[::1]",
            "[::1]:9090",
            "[::ffff:127.0.0.1]:1",
            "localhost",
            "LocalHost:1234",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            ":9090",
            "evil.example",
            "evil.example:9090",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost.",
            "localhost:",
            "localhost:http",
            "localhost:+80",
            "localhost:65536",
            "localhost:80:80",
            "evil.example@localhost",
            "127.1",
            "2130706433",
            "0.0.0.0",
            "192.0.2.1",
            "::1",
            "[::1",
            "[::1]9090",
            "[::1].evil.example",
            "[127.0.0.1]",
            "[localhost]",
            "[2001:db8::1]",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }

    fn checked(fields: &[(HeaderName, &'static str)], authority: Option<&str>) -> bool {
        let fields = fields.iter();
        let headers = fields.map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        check(&map, authority).is_ok()
    }

    #[test]
    fn one_local_host_is_needed() {
        let host = || (HOST, "localhost:9090");
        assert!(checked(&[host()], None));
        assert!(checked(&[host()], Some("127.0.0.1:9090")));
        assert!(!checked(&[], None));
        assert!(!checked(&[host(), host()], None));
        assert!(!checked(&[host(), (HOST, "evil.example")], None));
        assert!(!checked(&[host()], Some("evil.example")));
        assert!(!checked(&[(HOST, "")], None));
    }

    #[test]
    fn requests_of_other_sites_are_refused() {
        let host = || (HOST, "localhost");
        let from = |site| checked(&[host(), (SEC_FETCH_SITE, site)], None);
        assert!(from("same-origin") && from("none"));
        for site in ["cross-site", "same-site", "", "None", "same-origin, none"] {
            assert!(!from(site), "{site}");
        }
        let twice = [
            host(),
            (SEC_FETCH_SITE, "none"),
            (SEC_FETCH_SITE, "cross-site"),
        ];
        assert!(!checked(&twice, None));
    }
}
