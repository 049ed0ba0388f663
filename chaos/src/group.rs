//! A control group with a memory limit, of either version.

use crate::book::{Broken, Result};
use std::path::{Path, PathBuf};

/// A control group below our own. Removed when dropped, if nobody is in it any more.
pub(crate) struct Group {
    /// Its directory.
    pub(crate) dir: PathBuf,
    is_v2: bool,
}

impl Drop for Group {
    fn drop(&mut self) {
        // A failure leaves an empty group behind.
        drop(std::fs::remove_dir(&self.dir));
    }
}

impl Group {
    /// Makes one.
    ///
    /// # Errors
    /// What the kernel or the system refused.
    pub(crate) fn new(memory_bytes: u64) -> Result<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        let fields = own
            .lines()
            .map(|line| line.splitn(3, ':').collect::<Vec<_>>());
        let of = |controllers: &str| {
            let mut lines = fields.clone().filter(|fields| fields.len() == 3);
            lines.find(|fields| fields[1].split(',').any(|name| name == controllers))
        };
        let (root, group, is_v2) = match (of("memory"), of("")) {
            (Some(fields), _) => ("/sys/fs/cgroup/memory", fields[2].to_owned(), false),
            (None, Some(fields)) => ("/sys/fs/cgroup", fields[2].to_owned(), true),
            (None, None) => return Err(Broken("this process is in none with memory".into())),
        };
        let name = format!("relay-chaos-{}", std::process::id());
        let dir = Path::new(root)
            .join(group.trim_start_matches('/'))
            .join(name);
        std::fs::create_dir(&dir).map_err(|error| Broken(format!("{}: {error}", dir.display())))?;
        let made = Self { dir, is_v2 };
        let file = if is_v2 {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        std::fs::write(made.dir.join(file), memory_bytes.to_string())?;
        Ok(made)
    }

    /// How often the kernel killed somebody in it for want of memory.
    ///
    /// # Errors
    /// If it doesn't say.
    pub(crate) fn kills(&self) -> Result<u64> {
        let file = if self.is_v2 {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = std::fs::read_to_string(self.dir.join(file))?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        let count = count.and_then(|count| count.trim().parse().ok());
        count.ok_or_else(|| Broken(format!("{file} doesn't say how many were killed")))
    }
}
