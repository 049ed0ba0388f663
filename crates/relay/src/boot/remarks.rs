//! What is not refused, but should be known.

use super::Boot;
use crate::config::Config;
use crate::observe::log::{Event, Key, Log};
use crate::os::rlimit::{Bounds, Machine};

impl Boot<'_> {
    /// Says it.
    pub(crate) fn remarks(&self, log: &Log) {
        if let Some(err) = self.privileges.excess() {
            let fix =
                "run it as a user of its own; for ports below 1024 CAP_NET_BIND_SERVICE is enough";
            log.write(Event::Privileged, &[(Key::Err, &err), (Key::Fix, &fix)]);
        }
        beyond_machine(&self.loaded.config(), log);
        for variable in &self.loaded.unknown_variables {
            log.write(Event::UnknownVariable, &[(Key::EnvVar, variable)]);
        }
    }
}

/// Says which limits are beyond what this machine has, and what helps.
fn beyond_machine(config: &Config, log: &Log) {
    let machine = Machine::look();
    let max_connections = config.max_connections;
    let bounds = Bounds {
        connections: max_connections.unwrap_or_else(|| machine.max_connections()),
        handshakes: config
            .max_handshakes
            .unwrap_or_else(|| machine.max_handshakes()),
        queue_bytes: config.queue_bytes.unwrap_or_else(|| machine.queue_bytes()),
        park_bytes: config
            .park_total_bytes
            .unwrap_or_else(|| machine.park_bytes()),
    };
    let lacks = [
        (
            machine.lacks_descriptors(bounds),
            "raise the limit of open descriptors (LimitNOFILE, ulimit -n), or lower --max-connections and --max-handshakes",
        ),
        (
            machine.lacks_memory(bounds),
            "give it more memory, or lower --max-connections, --max-handshakes, --queue-bytes and --park-bytes, whichever is set",
        ),
    ];
    for (err, fix) in lacks {
        if let Some(err) = err {
            log.write(
                Event::LimitsBeyondMachine,
                &[(Key::Err, &err), (Key::Fix, &fix)],
            );
        }
    }
}
