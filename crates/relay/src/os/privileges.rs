//! What this process may do beyond what a relay needs.

use rustix::thread::{CapabilitySet, capabilities};

/// Who runs the process, and its capabilities.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Privileges {
    pub(crate) effective_uid: u32,
    /// `None`: the system does not say.
    effective: Option<CapabilitySet>,
}

impl Default for Privileges {
    /// An ordinary user.
    fn default() -> Self {
        Self {
            effective_uid: 1000,
            effective: Some(CapabilitySet::empty()),
        }
    }
}

impl Privileges {
    /// Of this process.
    pub(crate) fn current() -> Self {
        Self {
            effective_uid: rustix::process::geteuid().as_raw(),
            effective: capabilities(None).ok().map(|sets| sets.effective),
        }
    }

    #[cfg(test)]
    pub(crate) fn root() -> Self {
        Self {
            effective_uid: 0,
            effective: Some(CapabilitySet::all()),
        }
    }

    /// What it has and does not need, in words.
    pub(crate) fn excess(&self) -> Option<String> {
        match (self.effective_uid, self.excess_capabilities()) {
            (0, _) => Some("it runs as root".to_owned()),
            (_, capabilities) => capabilities,
        }
    }

    /// Every effective capability but the one for ports below 1024.
    pub(crate) fn excess_capabilities(&self) -> Option<String> {
        let Some(effective) = self.effective else {
            return Some("the process's capabilities cannot be read".to_owned());
        };
        let excess = effective.difference(CapabilitySet::NET_BIND_SERVICE);
        if excess.is_empty() {
            return None;
        }
        let names: Vec<String> = excess
            .iter_names()
            .map(|(name, set)| format!("CAP_{name} ({})", set.bits().trailing_zeros()))
            .collect();
        Some(format!(
            "it has the capabilities {}; CAP_NET_BIND_SERVICE (10) is all that is allowed",
            names.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offending_capability_is_named_with_its_bit() {
        let text = Privileges::root().excess_capabilities().unwrap();
        assert!(
            text.contains("CAP_CHOWN (0)") && text.contains("CAP_SYS_ADMIN (21)"),
            "{text}"
        );
        assert!(!text.contains("CAP_NET_BIND_SERVICE (10),"));
        let bind = Privileges {
            effective: Some(CapabilitySet::NET_BIND_SERVICE),
            ..Privileges::default()
        };
        assert_eq!(bind.excess(), None);
        assert!(Privileges::root().excess().unwrap().contains("root"));
    }
}
