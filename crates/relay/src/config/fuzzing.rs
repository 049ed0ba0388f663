//! A configuration file, from its text to what is in force.

use super::layers::{self, Loaded, Origin, Variables};
use super::report;
use crate::boot::{Boot, Refusal};
use crate::os::privileges::Privileges;
use crate::os::rlimit::Machine;
use std::collections::BTreeMap;
use std::path::Path;

/// A file that was understood.
pub struct Configuration {
    /// What `check-config` prints.
    pub shown: String,
    /// Every setting, with those that follow from this machine.
    pub in_force: String,
    /// What speaks against starting with it. Not asked if the settings name files: they would be read.
    pub refusals: Vec<String>,
}

/// Reads `text` as the file that --config names, with no other layer.
///
/// # Errors
/// The first mistake.
pub fn configuration(text: &str) -> Result<Configuration, String> {
    let loaded = load(text).map_err(|refusal| refusal.to_string())?;
    let machine = Machine::look();
    let mut config = loaded.config();
    config
        .max_connections
        .get_or_insert(machine.max_connections());
    config
        .max_handshakes
        .get_or_insert(machine.max_handshakes());
    config.queue_bytes.get_or_insert(machine.queue_bytes());
    config.park_total_bytes.get_or_insert(machine.park_bytes());
    let names_files = ["tls-cert", "tls-key", "acme-ca"];
    let refusals = match names_files.iter().any(|name| loaded.is_given(name)) {
        true => Vec::new(),
        false => Boot::new(&loaded, &Variables::new(), Privileges::default()).refusals(),
    };
    Ok(Configuration {
        shown: report::text(&loaded),
        in_force: format!("{config:?}"),
        refusals: refusals.iter().map(Refusal::to_string).collect(),
    })
}

fn load(text: &str) -> Result<Loaded, Refusal> {
    let path = Path::new("relay.toml");
    let names = layers::names();
    let mut settings = BTreeMap::new();
    for (name, value) in layers::in_file(path, text, &names)? {
        settings.insert(name, (value, Origin::File(path.to_owned())));
    }
    layers::finish(&names, settings, &Variables::new())
}
