//! What TLS adds: memory of an idle connection, and processor time of a handshake.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};

use crate::accepts::Lives;
use crate::bench::Bench;
use crate::dial::Dialler;
use crate::idle;
use crate::link::{Keys, Link};
use crate::machine::free_addr;
use crate::report::Row;

/// Handshakes going on at the same time.
const AT_ONCE: usize = 8;

/// Memory, then handshakes with and without a ticket.
pub(crate) fn run(bench: &Bench) -> io::Result<Vec<Row>> {
    let mut rows = vec![idle::encrypted(bench)?];
    for (name, resume) in [("full", false), ("resumed", true)] {
        let runs = bench.repeat(name, || handshakes(bench, resume))?;
        let row = |name: String, unit, value: fn(&Lives) -> f64| {
            Row::new(name, unit, runs.iter().map(value).collect())
                .loads(runs.iter().map(|run| run.load))
        };
        rows.push(row(
            format!("TLS handshake, {name}, CPU each"),
            "µs",
            Lives::cpu_us,
        ));
        rows.push(row("  per second".to_owned(), "1/s", Lives::per_s));
    }
    Ok(rows)
}

/// TCP, TLS, and the end, again and again. With `resume`, a client comes back with its ticket.
fn handshakes(bench: &Bench, resume: bool) -> io::Result<Lives> {
    let keys = Keys::new(resume)?;
    let addr = free_addr()?;
    let server = keys.start_at(&bench.subject, addr, &[])?;
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    scope(|scope| {
        let clients: Vec<_> = (0..AT_ONCE)
            .map(|_| scope.spawn(|| shake(addr, &keys, &stop, &done)))
            .collect();
        sleep(bench.scale.warm_up);
        let measured = server.cost(|| {
            let before = done.load(Ordering::Relaxed);
            sleep(bench.scale.measure);
            Ok(done.load(Ordering::Relaxed) - before)
        });
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            let ended = client.join();
            ended.map_err(|_| io::Error::other("a client panicked"))??;
        }
        let (count, load) = measured?;
        Ok(Lives { load, count })
    })
}

fn shake(addr: SocketAddr, keys: &Keys, stop: &AtomicBool, done: &AtomicU64) -> io::Result<()> {
    let mut dialler = Dialler::new(addr);
    while !stop.load(Ordering::Relaxed) {
        let mut link = Link::over(dialler.tcp()?, Some(keys))?;
        // An answer shows that the relay is through with the handshake, and brings the ticket.
        link.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = Vec::new();
        link.read_to_end(&mut answer)?;
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(io::Error::other("the relay did not answer 200"));
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
