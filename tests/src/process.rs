//! What the kernel says about the program under test.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use rustix::process::{Resource, Rlimit, prlimit};

use crate::eventually;
use crate::relay::Relay;

impl Relay {
    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.pid.as_raw_nonzero())
    }

    /// Its resident memory in bytes.
    pub fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(self.proc("status")).expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|l| l.trim().strip_suffix(" kB"))
            .and_then(|n| n.parse().ok());
        kib.map(|kib: usize| kib * 1024)
            .expect("a VmRSS line in kB")
    }

    /// How many file descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(self.proc("fd"))
            .expect("the process is there")
            .count()
    }

    /// Waits until its resident memory is at most `limit` bytes.
    pub async fn expect_resident_at_most(&self, limit: usize) {
        let what = format!("resident memory of at most {} KiB", limit / 1024);
        eventually(&what, || async {
            (self.resident_bytes() <= limit).then_some(())
        })
        .await;
    }

    /// Lets it write files of any size, if it was started with a soft limit.
    pub fn lift_file_size_limit(&self) {
        let unlimited = Rlimit {
            current: None,
            maximum: None,
        };
        prlimit(Some(self.pid), Resource::Fsize, unlimited).expect("the limit is lifted");
    }

    /// Bytes that the kernel keeps for its connection with `peer`: not sent yet, or not acknowledged.
    pub fn send_queue_bytes(&self, peer: SocketAddr) -> usize {
        let ends = [self.addr(), peer].map(|end| {
            let SocketAddr::V4(end) = end else {
                panic!("{end} is not IPv4")
            };
            let ip = u32::from_ne_bytes(end.ip().octets());
            format!("{ip:08X}:{:04X}", end.port())
        });
        let table = std::fs::read_to_string(self.proc("net/tcp")).expect("the process is there");
        let mut lines = table.lines().map(|line| line.split_whitespace());
        let queues = lines.find_map(|mut columns| {
            let found = columns.nth(1) == Some(&*ends[0]) && columns.next() == Some(&*ends[1]);
            found.then(|| columns.nth(1)).flatten()
        });
        let (sending, _) = queues
            .and_then(|queues| queues.split_once(':'))
            .expect("a connection");
        usize::from_str_radix(sending, 16).expect("hexadecimal")
    }

    /// The TCP ports on which it listens, in order.
    pub fn listening(&self) -> Vec<u16> {
        let own: BTreeSet<String> = std::fs::read_dir(self.proc("fd"))
            .expect("the process is there")
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter_map(|target| {
                let inode = target.to_str()?.strip_prefix("socket:[")?;
                Some(inode.strip_suffix(']')?.to_owned())
            })
            .collect();
        let mut ports = BTreeSet::new();
        for table in ["net/tcp", "net/tcp6"] {
            // Without IPv6 there is no table of it.
            let table = std::fs::read_to_string(self.proc(table)).unwrap_or_default();
            for line in table.lines().skip(1) {
                let columns: Vec<&str> = line.split_whitespace().collect();
                let (local, state, inode) = (columns[1], columns[3], columns[9]);
                if state == LISTEN && own.contains(inode) {
                    let (_, port) = local.rsplit_once(':').expect("an address and a port");
                    ports.insert(u16::from_str_radix(port, 16).expect("hexadecimal"));
                }
            }
        }
        ports.into_iter().collect()
    }
}

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";
