"""Runs the container image without a container engine: its root folder, laid out by the script that the Dockerfile
uses, its ENTRYPOINT, ENV, USER and HEALTHCHECK, with nothing else there and no capability.

Usage: image.py STATIC-PROGRAM (as root, in a network namespace of its own with lo up)
"""

import json
import os
import pathlib
import stat
import subprocess
import sys
import tempfile

from common import PACKAGING, Service, become, image

program = sys.argv[1]
final = image()
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def lay_out(root):
    # The Dockerfile calls it the same way.
    script = PACKAGING / "docker" / "image-root"
    subprocess.run([script, program, CERTIFICATES, root], check=True)
    volume = os.stat(f"{root}{final['VOLUME']}")
    if (volume.st_uid, volume.st_mode & 0o7777) != (65532, 0o700):
        sys.exit(f"the volume belongs to {volume.st_uid}, mode {volume.st_mode & 0o7777:o}")


def devices(root):
    # What every container engine adds (OCI runtime specification, "Default Devices"); a static glibc reads randomness there.
    folder = pathlib.Path(root, "dev")
    folder.mkdir()
    for name, number in {"null": 3, "zero": 5, "full": 7, "random": 8, "urandom": 9}.items():
        os.mknod(folder / name, stat.S_IFCHR, os.makedev(1, number))
        os.chmod(folder / name, 0o666)


def capabilities(process):
    status = pathlib.Path(f"/proc/{process}/status").read_text()
    return {line.split()[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")}


with tempfile.TemporaryDirectory(prefix="relay-image-") as root:
    os.chmod(root, 0o755)
    lay_out(root)
    devices(root)
    user = int(final["USER"].split(":")[0])
    enter = become(user, root)
    entrypoint = json.loads(final["ENTRYPOINT"])
    # The only place where that user may write.
    folder = final["VOLUME"]
    args = ["--insecure-listen=127.0.0.1:8080"]
    running = Service([*entrypoint, *args], final["ENV"], folder, root=root, enter=enter)
    running.wait_for("READY=1")
    held = capabilities(running.process.pid)
    if held["CapEff:"] or held["CapPrm:"]:
        running.fail(f"it has capabilities: {held}")
    health = json.loads(final["HEALTHCHECK"].partition("CMD")[2])
    asked = subprocess.run(health, env=final["ENV"], preexec_fn=enter, capture_output=True, text=True)
    if asked.returncode != 0:
        running.fail(f"HEALTHCHECK ends with {asked.returncode}: {asked.stdout}{asked.stderr}")
    running.stop()
    asked = subprocess.run(health, env=final["ENV"], preexec_fn=enter, capture_output=True, text=True)
    if asked.returncode != 1:
        sys.exit(f"HEALTHCHECK of a stopped relay ends with {asked.returncode}: {asked.stdout}{asked.stderr}")
    print(f"alone in its root folder as {user}, without capabilities: ready, HEALTHCHECK, stopped with 0")
