"""Runs the unit's command with the unit's user, capabilities and limits, and compares what the program asks of
the kernel with what the unit allows: system calls, address families, executable memory.

Usage: service.py PROGRAM (as root, in a network namespace of its own with lo up)
"""

import pathlib
import re
import resource
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request

from common import PACKAGING, UNIT, Service, pairs, unit

program = sys.argv[1]
service = unit(UNIT)
# No account's number: the package makes the real one.
USER = 65532
CONFIG = "/etc/pyrycode-relay/relay.toml"

CAPABILITIES = {
    "bounding-set": "-all," + service["CapabilityBoundingSet"][0].lower().replace("cap_", "+"),
    "inh-caps": "-all," + service["AmbientCapabilities"][0].lower().replace("cap_", "+"),
    "ambient-caps": "-all," + service["AmbientCapabilities"][0].lower().replace("cap_", "+"),
}
NO_CAPABILITIES = dict.fromkeys(CAPABILITIES, "-all")


def group(name):
    """Every system call of a systemd group, with those of the groups in it."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    calls = set()
    for word in map(str.strip, listed.stdout.splitlines()[1:]):
        if word.startswith("@"):
            calls |= group(word)
        elif word and not word.startswith("#"):
            calls.add(word)
    return calls


def allowed_calls():
    # systemd always lets these through.
    calls = group("@default")
    for line in service["SystemCallFilter"]:
        for word in line.removeprefix("~").split():
            named = group(word) if word.startswith("@") else {word}
            calls = calls - named if line.startswith("~") else calls | named
    return calls


def confined(command, capabilities):
    user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
    sets = [f"--{name}={value}" for name, value in capabilities.items()]
    # Not every machine lets root raise it.
    descriptors = min(int(service["LimitNOFILE"][0]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    return ["prlimit", f"--nofile={descriptors}", *user, *sets, *command]


def start(folder, name, settings, capabilities=None, sockets=(), **environment):
    """The running service, and the arguments that name its settings. Without sockets, its calls are recorded."""
    path = folder / f"{name}.toml"
    path.write_text(settings)
    args = [arg.replace(CONFIG, str(path)) for arg in shlex.split(service["ExecStart"][0])[1:]]
    trace = [] if sockets else ["strace", "-D", "-f", "-qq", "-s", "0", "-o", str(folder / f"{name}.strace")]
    command = confined([*trace, program, *args], capabilities or CAPABILITIES)
    if sockets:
        takes = " ".join(f"{3 + n}<&{s.fileno()}" for n, s in enumerate(sockets))
        script = f'exec {takes}; export LISTEN_FDS={len(sockets)} LISTEN_PID=$$; exec "$@"'
        command = ["bash", "-c", script, "bash", *command]
    environment = {"HOME": str(folder), "PATH": "/usr/bin:/bin", **environment}
    running = Service(command, environment, folder, descriptors=[s.fileno() for s in sockets])
    running.wait_for("READY=1")
    return running, args


def ask(running, url):
    """The listener must answer, whatever its certificate."""
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    try:
        with urllib.request.urlopen(url, timeout=5, context=anybody) as answer:
            answer.read()
    except OSError as error:
        running.fail(f"{url}: {error}")


def run(running, *command):
    done = subprocess.run([program, *command], capture_output=True, text=True)
    if done.returncode != 0:
        running.fail(f"{command[0]} ends with {done.returncode}: {done.stdout}{done.stderr}")


def as_installed(folder, production):
    running, args = start(folder, "installed", (PACKAGING / "config" / "relay.toml").read_text(), **production)
    ask(running, "https://127.0.0.1:8443/healthz")
    ask(running, "http://127.0.0.1:9090/metrics")
    run(running, "healthcheck", *args)
    # ExecReload.
    running.process.send_signal(signal.SIGHUP)
    running.wait_for("WATCHDOG=1")
    running.stop()


def behind_a_proxy(folder):
    # With the drop-in that the unit describes: no PYRYCODE_RELAY_PRODUCTION.
    running, _ = start(folder, "plain", 'insecure-listen = "127.0.0.1:8080"\nboot-park = "0s"\n')
    run(running, "probe", "ws://127.0.0.1:8080")
    running.stop()


def public(folder, production):
    """The ports 80 and 443 by the unit's capability, and a CA that cannot be found."""
    settings = f"""
        domain = "relay.example.com"
        acme-directory = "https://acme.invalid:14000/directory"
        cert-cache = "{folder}/certs"
    """
    running, _ = start(folder, "public", settings, **production)
    with socket.create_connection(("127.0.0.1", 443), 5) as connection:
        try:
            ssl.create_default_context().wrap_socket(connection, server_hostname="relay.example.com")
        except (ssl.SSLError, OSError):
            # There is no certificate, but now somebody wants one.
            pass
    running.wait_for("WATCHDOG=1")
    running.stop()


def activated(folder, production):
    """The ports of the socket unit, without any capability."""
    ports = [int(port) for port in unit(PACKAGING / "systemd" / "pyrycode-relay.socket")["ListenStream"]]
    sockets = [socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True) for port in ports]
    running, _ = start(folder, "activated", "self-signed = true\n", NO_CAPABILITIES, sockets, **production)
    ask(running, f"https://127.0.0.1:{ports[0]}/healthz")
    ask(running, f"https://[::1]:{ports[0]}/healthz")
    running.stop()
    for each in sockets:
        each.close()


def judge(folder):
    """What the traces show that the unit forbids."""
    trace = "".join(path.read_text() for path in folder.glob("*.strace"))
    calls = set(re.findall(r"^\d+ +(\w+)\(", trace, re.M))
    families = set(re.findall(r"\bsocket(?:pair)?\((AF_\w+)", trace))
    refused = sorted(calls - allowed_calls())
    foreign = sorted(families - set(service["RestrictAddressFamilies"][0].split()))
    # What MemoryDenyWriteExecute= turns down.
    writable = r"^.*\bmmap\(.*PROT_WRITE\|PROT_EXEC.*$|^.*\b(?:pkey_)?mprotect\(.*PROT_EXEC.*$"
    executable = [match.group(0) for match in re.finditer(writable, trace, re.M)]
    mistakes = []
    if refused:
        mistakes.append(f"SystemCallFilter refuses: {' '.join(refused)}")
    if foreign:
        mistakes.append(f"RestrictAddressFamilies refuses: {' '.join(foreign)}")
    if executable:
        mistakes.append("MemoryDenyWriteExecute refuses: " + "; ".join(executable))
    if len(calls) < 30:
        mistakes.append(f"the traces show only {len(calls)} system calls: they are not complete")
    if mistakes:
        sys.exit("\n".join(mistakes))
    return f"{len(calls)} system calls and {' '.join(sorted(families))} are all allowed"


with tempfile.TemporaryDirectory(prefix="relay-service-") as folder:
    folder = pathlib.Path(folder)
    subprocess.run(["chown", str(USER), folder], check=True)
    production = {name: value for line in service["Environment"] for name, value in pairs(line).items()}
    as_installed(folder, production)
    behind_a_proxy(folder)
    public(folder, production)
    activated(folder, production)
    print(f"ready, asked, reloaded and stopped as installed, plain, public and socket-activated; {judge(folder)}")
