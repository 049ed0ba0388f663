//! Who is calling, from `X-Forwarded-For`: as a model has it, and whatever a stranger claims.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_core::forwarded::client;
use std::net::{IpAddr, Ipv4Addr};

#[path = "../oracle/forwarded.rs"]
mod oracle;

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fuzz_target!(|header: &str| {
    // The standard library reads a scope into an address with a port; ours has no use for it either way.
    if header.contains('%') {
        return;
    }
    let lines: Vec<&str> = header.split('\n').collect();
    let ours = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if ip.octets()[0] == 10);
    let walk = |peer, lines: &[&str]| client(peer, lines.iter().copied(), ours);
    assert_eq!(walk(PROXY, &lines), oracle::client(PROXY, &lines, ours));

    let stranger = IpAddr::from([192, 0, 2, 7]);
    assert_eq!(walk(stranger, &lines), stranger);
    let claims = [&lines[..], &["192.0.2.7, 10.1.2.3", "10.0.0.2"]].concat();
    assert_eq!(walk(PROXY, &claims), stranger);
});
