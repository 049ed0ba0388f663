"""Installs the Debian package in a minimal Debian, runs the service there as its unit says, upgrades, removes and
purges it.

Usage: install.py PACKAGE.deb DEBIAN-TREE (as root, in mount and network namespaces of its own with lo up)
"""

import json
import os
import pathlib
import pwd
import shlex
import shutil
import subprocess
import sys
import tempfile

from common import Service, become, pairs, seconds, unit

package = pathlib.Path(sys.argv[1])
tree = pathlib.Path(sys.argv[2])
USER = "pyrycode-relay"
BILL = "usr/share/doc/pyrycode-relay/pyrycode-relay.cdx.json"


def must(holds, what):
    if not holds:
        sys.exit(what)


def inside(*command, status=0):
    """Runs a command in the Debian; its output."""
    done = subprocess.run(
        ["chroot", root, *command],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    must(done.returncode == status, f"{shlex.join(command)} ends with {done.returncode}:\n{done.stdout}")
    return done.stdout


def account():
    """The service's entry in the Debian's passwd."""
    lines = (root / "etc/passwd").read_text().splitlines()
    found = [pwd.struct_passwd(line.split(":")) for line in lines if line.startswith(f"{USER}:")]
    return found[0] if found else None


def installed():
    inside("dpkg", "--install", f"/{package.name}")
    must("pyrycode-relay" in inside("pyrycode-relay", "--help"), "the program does not run")
    for path in (
        "usr/lib/systemd/system/pyrycode-relay.service",
        "usr/lib/systemd/system/pyrycode-relay.socket",
        "usr/share/man/man1/pyrycode-relay.1.gz",
        "usr/share/man/man1/pyrycode-relay-check-config.1.gz",
        "usr/share/doc/pyrycode-relay/copyright",
        BILL,
    ):
        must((root / path).is_file(), f"/{path} is not there")
    bill = json.loads((root / BILL).read_text())
    crates = {part["name"] for part in bill["components"] if part["scope"] == "required"}
    must({"relay-core", "tokio", "rustls"} <= crates and "proptest" not in crates, f"the bill of materials has {crates}")
    must(inside("dpkg-query", "-W", "-f=${Conffiles}", USER).split()[0] == "/etc/pyrycode-relay/relay.toml", "conffiles")
    who = account()
    must(who is not None, "there is no user for the service")
    must(who.pw_shell.endswith("nologin") and int(who.pw_uid) < 1000, f"the user is no system user: {who}")
    wants = list((root / "etc/systemd/system").rglob("pyrycode-relay*"))
    must(not wants, f"the service is enabled before anybody configured it: {wants}")


def completions_and_manual():
    share = root / "usr/share"
    checks = {
        "bash": ["-c", "source $0 && complete -p pyrycode-relay", f"{share}/bash-completion/completions/pyrycode-relay"],
        "zsh": ["-n", f"{share}/zsh/vendor-completions/_pyrycode-relay"],
        "fish": ["--no-execute", f"{share}/fish/vendor_completions.d/pyrycode-relay.fish"],
    }
    for shell, args in checks.items():
        done = subprocess.run([shell, *args], capture_output=True, text=True)
        must(done.returncode == 0 and not done.stderr, f"{shell}'s completions: {done.stderr}")
    pages = sorted((share / "man/man1").glob("pyrycode-relay*.1.gz"))
    for page in pages:
        done = subprocess.run(["man", "--warnings", "-Tutf8", "-l", page], capture_output=True, text=True)
        must(done.returncode == 0 and not done.stderr and done.stdout, f"{page.name}: {done.stderr or 'empty'}")
    return len(pages)


def checked(user, cache):
    """What an administrator asks before the first start: certificates of its own, in the directory of the service."""
    command = ["/usr/bin/pyrycode-relay", "check-config", "--domain=relay.example.com", f"--cert-cache={cache}"]
    done = subprocess.run(command, env={}, preexec_fn=become(user, root), capture_output=True, text=True)
    must(done.returncode == 0, f"check-config ends with {done.returncode}: {done.stdout}{done.stderr}")


def serve():
    """Starts the service as its unit says, with the settings as they were installed."""
    service = unit(root / "usr/lib/systemd/system/pyrycode-relay.service")
    must(service["User"] == [USER], f"the unit runs it as {service['User']}")
    user = int(account().pw_uid)
    for name in service["StateDirectory"]:
        state = root / "var/lib" / name
        checked(user, f"/var/lib/{name}/certs")
        state.chmod(int(service["StateDirectoryMode"][0], 8))
        os.chown(state, user, user)
    environment = {name: value for line in service["Environment"] for name, value in pairs(line).items()}
    environment["HOME"] = account().pw_dir
    command = shlex.split(service["ExecStart"][0])
    running = Service(command, environment, f"/var/lib/{name}", root=root, enter=become(user, root))
    running.wait_for("READY=1", seconds(service.get("TimeoutStartSec", ["90"])[0]))
    health = [command[0], "healthcheck", *command[1:]]
    done = subprocess.run(health, env=environment, preexec_fn=become(user, root), capture_output=True, text=True)
    if done.returncode != 0:
        running.fail(f"healthcheck ends with {done.returncode}: {done.stdout}{done.stderr}")
    running.stop()


def upgraded():
    settings = root / "etc/pyrycode-relay/relay.toml"
    settings.write_text(settings.read_text() + "# an administrator's line\n")
    before = account()
    inside("dpkg", "--install", f"/{package.name}")
    must("an administrator's line" in settings.read_text(), "an upgrade overwrites the settings")
    must(account() == before, "an upgrade changes the user")


def removed_and_purged():
    secrets = root / "etc/pyrycode-relay/environment"
    secrets.write_text("PYRYCODE_RELAY_FCM_CREDENTIALS=x\n")
    inside("dpkg", "--remove", USER)
    must(not (root / "usr/bin/pyrycode-relay").exists(), "the program is still there after its removal")
    must((root / "etc/pyrycode-relay/relay.toml").exists(), "a removal takes the settings along")
    must((root / "var/lib/pyrycode-relay").exists(), "a removal takes the certificates along")
    inside("dpkg", "--purge", USER)
    left = [path for path in ("etc/pyrycode-relay", "var/lib/pyrycode-relay") if (root / path).exists()]
    must(not left, f"a purge leaves {left}")
    must(account() is not None, "a purge frees the user's number")


with tempfile.TemporaryDirectory(prefix="relay-debian-", dir=tree.parent) as folder:
    root = pathlib.Path(folder) / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", tree, root], check=True)
    shutil.copy(package, root)
    subprocess.run(["mount", "-t", "proc", "proc", root / "proc"], check=True)
    try:
        installed()
        pages = completions_and_manual()
        serve()
        upgraded()
        removed_and_purged()
    finally:
        subprocess.run(["umount", root / "proc"], check=True)
    print(f"{package.name}: installed, {pages} manual pages, completions, served, upgraded, removed, purged")
