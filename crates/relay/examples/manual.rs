//! Writes the manual pages and the shells' completions, made from the command line itself:
//! `manual OUT_DIR`. Packages install them.

use clap_complete::{Shell, generate_to};
use clap_mangen::roff::{Roff, bold, roman};
use pyrycode_relay::cli;
use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let Some(out) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: manual OUT_DIR"));
    };
    std::fs::create_dir_all(&out)?;
    let command = cli::command();
    let name = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command.clone(), &name, &out)?;
    }
    let layers = command.get_after_help().map(ToString::to_string);
    clap_mangen::generate_to(command.after_help(None::<&'static str>), &out)?;
    let mut page = OpenOptions::new()
        .append(true)
        .open(out.join(format!("{name}.1")))?;
    sections(&layers.unwrap_or_default()).to_writer(&mut page)
}

/// What the program's page tells beyond its flags.
const SECTIONS: [(&str, &[(&str, &str)]); 4] = [
    (
        "ENVIRONMENT",
        &[
            (
                "PYRYCODE_RELAY_PRODUCTION",
                "Set to 1: refuse plain HTTP, root, and capabilities beyond CAP_NET_BIND_SERVICE.",
            ),
            (
                "PYRYCODE_RELAY_SINGLE_INSTANCE",
                "Set to 1: asserts that only one relay runs, where FLY_APP_NAME tells of a platform that could run several.",
            ),
            (
                "PYRYCODE_RELAY_FCM_CREDENTIALS",
                "The JSON text of a Google service-account key: turns push wakes on.",
            ),
            (
                "PYRYCODE_RELAY_ADMIN_TOKEN",
                "What closing something on the admin page takes: 16 printable ASCII characters or more. If unset, a random one is printed on standard output at start.",
            ),
            (
                "PYRYCODE_RELAY_CONFIG",
                "The TOML file that --config names.",
            ),
        ],
    ),
    (
        "SIGNALS",
        &[
            (
                "SIGTERM, SIGINT",
                "Close every connection with 1001, over the time of --drain, and exit; a second one ends the drain, a third the wait for slow peers.",
            ),
            (
                "SIGHUP",
                "Read the files of --tls-cert and --tls-key again.",
            ),
        ],
    ),
    (
        "EXIT STATUS",
        &[
            (
                "0",
                "Stopped by a signal, or the subcommand found everything well.",
            ),
            (
                "1",
                "A listener or the certificate cache failed, or the subcommand found a fault.",
            ),
            (
                "2",
                "Settings that cannot be used; the message says which and how to mend them.",
            ),
        ],
    ),
    (
        "FILES",
        &[
            (
                "/etc/pyrycode-relay/relay.toml",
                "The settings of the packaged service.",
            ),
            (
                "/etc/pyrycode-relay/environment",
                "Its secrets, as NAME=value lines; may be missing.",
            ),
            (
                "/var/lib/pyrycode-relay/certs",
                "Its ACME account and certificates.",
            ),
        ],
    ),
];

/// `layers`: how settings can be given, from the program's help.
fn sections(layers: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["CONFIGURATION"]);
    roff.text([roman(layers)]);
    for (title, entries) in SECTIONS {
        roff.control("SH", [title]);
        for (term, text) in entries {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*text)]);
        }
    }
    roff
}
