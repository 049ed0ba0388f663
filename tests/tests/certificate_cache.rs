//! The directory in which certificates from a CA are kept: private, or made so.
#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use relay_tests::{HOST, Launch, Relay, free_port, is_root, skipped};

/// A start that keeps certificates in `cache`. No CA answers there, which costs it nothing but a
/// certificate.
fn with_cache(cache: &Path) -> Launch {
    let nobody = ["--acme-directory", "https://127.0.0.1:1/directory"];
    let cache = ["--cert-cache", cache.to_str().unwrap()];
    Launch::new(&["--domain", HOST]).args(&nobody).args(&cache)
}

async fn started(cache: &Path) -> Relay {
    with_cache(cache)
        .over_tls_with_its_own_certificate()
        .listener("--http-listen")
        .start()
        .await
}

async fn assert_refused(cache: &Path) {
    let free = || format!("127.0.0.1:{}", free_port([127, 0, 0, 1].into()));
    let listeners = [
        ("--https-listen", free()),
        ("--http-listen", free()),
        ("--metrics-listen", String::new()),
    ];
    let mut launch = with_cache(cache);
    for (flag, address) in &listeners {
        launch = launch.args(&[flag, address]);
    }
    let line = launch.ended().await.refusal(1, "autocert setup failed");
    let err = line.get("err").unwrap();
    assert!(err.contains(cache.to_str().unwrap()), "{err}");
    assert!(
        line.get("fix").unwrap().contains("--cert-cache"),
        "{line:?}"
    );
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn c75_a_file_in_its_place_is_exit_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache");
    fs::write(&file, "").unwrap();
    assert_refused(&file).await;
    assert_refused(&file.join("below")).await;
    // Not even root makes a folder there.
    assert_refused(Path::new("/proc/nowhere")).await;
}

#[tokio::test]
async fn c75_somebody_elses_directory_that_others_can_read_is_exit_1() {
    let test = "c75_somebody_elses_directory_that_others_can_read_is_exit_1";
    if !is_root() {
        return skipped(test, "only root can give a directory away");
    }
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(folder.path(), Some(65_534), None).unwrap();
    for open in [0o755, 0o701, 0o770] {
        set_mode(folder.path(), open);
        assert_refused(folder.path()).await;
        assert_eq!(mode(folder.path()), open, "left alone");
    }
}

#[tokio::test]
async fn c75_an_own_directory_is_tightened() {
    let folder = tempfile::tempdir().unwrap();
    set_mode(folder.path(), 0o755);
    let relay = started(folder.path()).await;
    let line = relay.log.wait("tightened cert cache dir perms", &[]).await;
    assert_eq!(line.level, "INFO");
    assert_eq!(line.get("path"), folder.path().to_str());
    let seen = [line.get("from").unwrap(), line.get("to").unwrap()];
    assert!(
        seen[0].ends_with("755") && seen[1].ends_with("700"),
        "{seen:?}"
    );
    assert_eq!(mode(folder.path()), 0o700);
    drop(relay);
    // A private one needs nothing.
    let relay = started(folder.path()).await;
    relay.log.wait("starting", &[("mode", "autocert")]).await;
    assert_eq!(relay.log.count("tightened cert cache dir perms", &[]), 0);
}

#[tokio::test]
async fn c75_a_missing_directory_is_made_private_with_its_parents() {
    let folder = tempfile::tempdir().unwrap();
    let parent = folder.path().join("state");
    let cache = parent.join("certs");
    let _relay = started(&cache).await;
    assert_eq!((mode(&parent), mode(&cache)), (0o700, 0o700));
}
