//! Starting the program as somebody else: root may drop what it has, by `setpriv` of util-linux.

use std::process::{Command, Stdio};

use crate::launch::program;

/// Whether these tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A wrapper for [`crate::Launch::through`] that starts the program as an unprivileged user (65534)
/// who has exactly `capabilities`, named as `setpriv` names them.
///
/// # Errors
/// Why that can't be done here.
pub fn as_nobody(capabilities: &[&str]) -> Result<Vec<String>, String> {
    if !is_root() {
        return Err("only root can start a program as somebody else".into());
    }
    let set: String = capabilities
        .iter()
        .map(|name| format!(",+{name}"))
        .collect();
    let wrapper = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        &format!("--inh-caps=-all{set}"),
        &format!("--ambient-caps=-all{set}"),
    ]
    .map(str::to_owned);
    let program = program();
    let tried = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .arg(&program)
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    match tried {
        Ok(status) if status.success() => Ok(wrapper.into()),
        Ok(_) => Err(format!("user 65534 can't execute {}", program.display())),
        Err(error) => Err(format!("`setpriv` can't be run: {error}")),
    }
}
