"""What the checks share: readers of the packaging's files, and a small service manager."""

import os
import pathlib
import queue
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
UNIT = PACKAGING / "systemd" / "pyrycode-relay.service"
DOCKERFILE = PACKAGING / "docker" / "Dockerfile"

# Exit status for "cannot be checked here"; the reason is the last line printed.
SKIP = 77


def skip(reason):
    print(reason)
    sys.exit(SKIP)


def unit(path=UNIT):
    """A unit's settings, every value of a repeated key in order: `{"ExecStart": ["..."]}`."""
    settings = {}
    for line in path.read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            settings.setdefault(key.strip(), []).append(value.strip())
    return settings


def dockerfile_stages(path=DOCKERFILE):
    """A Dockerfile's instructions by stage: `[[("FROM", "scratch"), ...], ...]`."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    stages = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stages.append([])
        if word:
            stages[-1].append((word, rest.strip()))
    return stages


def pairs(assignments):
    """`NAME=value NAME2="a b"` as a dictionary."""
    return dict(word.split("=", 1) for word in shlex.split(assignments))


def image():
    """The final stage of the Dockerfile: instructions by name, the last of a kind wins, `ENV` as a dictionary."""
    final = dict(dockerfile_stages()[-1])
    final["ENV"] = pairs(final["ENV"])
    return final


def seconds(text):
    """A duration as systemd, Go and the relay write it: `90`, `10s`, `2m`."""
    text = str(text)
    for suffix, factor in (("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600)):
        if text.endswith(suffix):
            return float(text.removesuffix(suffix)) * factor
    return float(text)


def become(user, root):
    """What a child process does before its program starts: into its root folder, without root's powers."""

    def enter():
        os.chroot(root)
        os.chdir("/")
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)

    return enter


class Service:
    """A program under the eye of a small service manager, as systemd runs one of Type=notify.

    `folder` is where its notification socket goes, as the program sees it; `root` is the program's root folder.
    """

    def __init__(self, command, environment, folder, root="", enter=None, descriptors=(), watchdog=1.0):
        name = pathlib.Path(folder, f"notify-{time.monotonic_ns()}")
        outside = pathlib.Path(f"{root}{name}")
        notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # A socket's name must be short, and the way to the root folder may be long.
        beside = os.open(outside.parent, os.O_PATH)
        notices.bind(f"/proc/self/fd/{beside}/{name.name}")
        os.close(beside)
        outside.chmod(0o777)
        self.told = queue.SimpleQueue()
        threading.Thread(target=self.read, args=[notices], daemon=True).start()
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command,
            env={**environment, "NOTIFY_SOCKET": str(name), "WATCHDOG_USEC": str(int(watchdog * 1_000_000))},
            preexec_fn=enter,
            pass_fds=descriptors,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )

    def read(self, notices):
        # As it comes: a manager that does not read would make the program wait.
        while True:
            for notice in notices.recv(4096).decode().splitlines():
                self.told.put(notice)

    def wait_for(self, notice, timeout=10.0):
        """Waits until the program tells `notice`, such as `READY=1`."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            # Asked before the queue: what the program told last may still be on its way.
            ended = self.process.poll() is not None
            try:
                if self.told.get(timeout=min(left, 0.2)) == notice:
                    return
            except queue.Empty:
                if ended:
                    break
        self.fail(f"it did not tell {notice} within {timeout} s")

    def stop(self, timeout=15.0):
        """SIGTERM; the program must end with 0. (Without peers it may be gone before it tells STOPPING=1.)"""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.fail(f"it still runs {timeout} s after SIGTERM")
        if status != 0:
            self.fail(f"it ended with {status} after SIGTERM")

    def fail(self, why):
        status = self.process.poll()
        self.process.kill()
        self.output.seek(0)
        sys.exit(f"{self.output.read()}{why} ({'it runs' if status is None else f'it has ended with {status}'})")
