//! A disk without room.

use super::Outcome;
use crate::book::{Result, ensure};
use crate::launch::PATIENCE;
use crate::relay::{Relay, Settings, free_port};
use crate::stage::{Stage, Town};
use crate::world::World;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A small file system of its own. Unmounted when dropped.
struct Disk {
    dir: TempDir,
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A failure leaves a small file system behind.
        drop(
            Command::new("umount")
                .arg("-l")
                .arg(self.dir.path())
                .status(),
        );
    }
}

impl Disk {
    fn new() -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("relay-chaos-disk-")
            .tempdir()?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"])
            .arg(dir.path());
        let output = mount.output()?;
        ensure(output.status.success(), || {
            format!("mount: {}", String::from_utf8_lossy(&output.stderr).trim())
        })?;
        Ok(Self { dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ballast(&self) -> PathBuf {
        self.path("ballast")
    }

    /// Fills it to the last byte.
    fn fill(&self) -> Result<()> {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())?;
        for size in [4096, 1] {
            while ballast.write(&vec![0; size]).is_ok_and(|n| n > 0) {}
        }
        Ok(())
    }
}

/// Everybody's connection ends and comes again, which is worth some lines of the log.
async fn commotion(stage: &mut Stage, town: &mut Town) -> Result<()> {
    for member in town.daemons.iter().chain(&town.phones) {
        member.way()?.reset();
    }
    stage.recover(town, PATIENCE).await?;
    Ok(())
}

fn size(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path)?.len())
}

/// The log's disk is full: the relay serves on, and logs again when there is room. A relay that cannot keep a certificate
/// starts, serves its other listeners and ends properly.
pub(crate) async fn full(world: World) -> Result<Outcome> {
    let disk = match Disk::new() {
        Ok(disk) => disk,
        Err(why) => {
            return Ok(Outcome::Skipped(format!(
                "no file system of its own: {why}"
            )));
        }
    };
    let settings = Settings {
        log: Some(disk.path("relay.log")),
        ..Settings::default()
    };
    let mut stage = Stage::with(&world, settings).await?;
    let mut town = stage.town().await?;
    disk.fill()?;
    let before = size(&stage.relay.log)?;
    commotion(&mut stage, &mut town).await?;
    disk.fill()?;
    // What it wrote fits into the block that its last line had begun, at the most.
    let lost = size(&stage.relay.log)? - before;
    ensure(lost < 4096, || {
        format!("the disk wasn't full: {lost} bytes were logged")
    })?;
    commotion(&mut stage, &mut town).await?;
    stage.health.pause();

    let http = free_port()?;
    let settings = Settings {
        program: world.relay.clone(),
        args: vec![
            "--domain=relay.test".into(),
            format!("--http-listen=127.0.0.1:{http}"),
            // Nobody is there.
            "--acme-directory=https://127.0.0.1:1/directory".into(),
            format!("--cert-cache={}", disk.path("certificates").display()),
        ],
        log: Some(disk.path("acme.log")),
        tls: true,
        ..Settings::default()
    };
    let mut acme = Relay::start(settings, &world.dir).await?;
    for _ in 0..5 {
        acme.healthz(PATIENCE).await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    acme.terminate().await?;
    stage.health.resume();

    std::fs::remove_file(disk.ballast())?;
    let full = size(&stage.relay.log)?;
    commotion(&mut stage, &mut town).await?;
    let log = stage.relay.log.clone();
    stage
        .until(PATIENCE, || async {
            let grown = size(&log)? > full;
            Ok((!grown)
                .then(|| "nothing is logged".to_owned())
                .into_iter()
                .collect())
        })
        .await?;
    let grown = size(&log)? - full;
    let figures = stage.finish(town).await?;
    drop(disk);
    Ok(Outcome::Kept(format!(
        "{grown} bytes were logged when there was room again; {figures}"
    )))
}
