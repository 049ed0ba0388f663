"""Gives every deployment's command line and environment to `check-config`, so that a setting which is
renamed, or a value which no longer fits, breaks the check and not the deployment.

Usage: deployments.py PROGRAM
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib

import yaml
from common import DOCKERFILE, PACKAGING, ROOT, UNIT, dockerfile_stages, image, pairs, seconds, unit

PREFIX = "PYRYCODE_RELAY_"
program = sys.argv[1]
mistakes = []


def check_config(args=(), environment=None):
    """Exit status, effective settings, and everything printed."""
    user = dict(user=65532, group=65532, extra_groups=[]) if os.geteuid() == 0 else {}
    done = subprocess.run(
        [program, "check-config", *args], env=environment or {}, capture_output=True, text=True, cwd=folder, **user
    )
    settings = tomllib.loads(done.stdout) if done.returncode == 0 else {}
    return done.returncode, settings, done.stdout + done.stderr


def expect(what, args=(), environment=None):
    """The settings of a deployment that must be fine, and free of warnings."""
    status, settings, said = check_config(args, environment)
    if status != 0 or "warning:" in said:
        mistakes.append(f"{what}: check-config ends with {status}:\n{said}")
    return settings


def demand(holds, what):
    if not holds:
        mistakes.append(what)


def stops_in(settings):
    """How long after SIGTERM the relay is surely gone, in seconds."""
    return seconds(settings.get("drain", "0s")) + seconds(settings.get("shutdown-timeout", "10s"))


def local(text):
    """The same text with its certificates, and the cache for them, in this check's folder."""
    for name in ("/etc/pyrycode-relay/tls/tls.crt", "/etc/pyrycode-relay/cert.pem", "/etc/pyrycode-relay/acme-ca.pem"):
        text = text.replace(name, f"{folder}/cert.pem")
    for name in ("/etc/pyrycode-relay/tls/tls.key", "/etc/pyrycode-relay/key.pem"):
        text = text.replace(name, f"{folder}/key.pem")
    for name in ("/var/lib/relay/autocert", "/var/lib/pyrycode-relay/certs"):
        text = text.replace(name, f"{folder}/certs")
    return text


def variables(*several):
    """One environment, with its paths in this check's folder."""
    return {name: local(value) for one in several for name, value in one.items()}


def systemd():
    service = unit(UNIT)
    environment = {name: value for line in service["Environment"] for name, value in pairs(line).items()}
    command = shlex.split(service["ExecStart"][0])
    demand(command[0] == "/usr/bin/pyrycode-relay", f"the unit starts {command[0]}")
    args = [arg.replace("/etc/pyrycode-relay/relay.toml", f"{PACKAGING}/config/relay.toml") for arg in command[1:]]
    settings = expect("the unit with the installed settings", args, environment)
    demand(
        seconds(service["TimeoutStopSec"][0]) > stops_in(settings),
        "TimeoutStopSec is not above drain + shutdown-timeout",
    )
    states = [f"/var/lib/{name}" for name in service["StateDirectory"]]
    demand(
        any(settings.get("cert-cache", "").startswith(state) for state in states),
        "the installed cert-cache is outside of StateDirectory",
    )


def settings_file():
    """The commented file: complete, true about the defaults, and usable in each of its choices."""
    text = (PACKAGING / "config" / "relay.toml").read_text()
    shown = re.findall(r"^#?([a-z-]+) = (.*)$", text, re.M)
    _, defaults, _ = check_config(["--insecure-listen=127.0.0.1:1"])
    _, _, listed = check_config(["--insecure-listen=127.0.0.1:1"])
    every = set(re.findall(r"^(?:# )?([a-z-]+) (?:=|is not set)", listed, re.M))
    names = {name for name, _ in shown}
    demand(names == every, f"relay.toml lacks {sorted(every - names)}, and knows of {sorted(names - every)}")
    for name, value in re.findall(r"^#([a-z-]+) = (.*)$", text, re.M):
        derived = re.search(rf"^{name} = .*# default: from this machine\b", listed, re.M)
        default = defaults.get(name)
        if default not in (None, "") and not derived and name != "insecure-listen":
            value = tomllib.loads(f"v = {value}")["v"]
            demand(value == default, f"relay.toml shows {name} = {value!r}, the default is {default!r}")

    # Each choice of the first part, with everything else that is commented out.
    head, rest = text.split("# The ACME account", 1)
    choices = re.split(r"^# \d\. ", head, flags=re.M)[1:]
    demand(len(choices) == 4, "relay.toml no longer has four choices")
    uncommented = lambda part: re.sub(r"^#([a-z-]+ = )", r"\1", part, flags=re.M)
    rest = uncommented("# The ACME account" + rest)
    exclusive = {
        # What only TLS knows, and what excludes trust-proxy.
        "https-proxy-protocol": lambda choice: "insecure-listen" in choice,
        "trust-x-forwarded-for": lambda _: False,
    }
    for number, choice in enumerate(choices, 1):
        choice = uncommented("# " + choice)
        part = "\n".join(
            line for line in rest.splitlines() if not exclusive.get(line.partition(" ")[0], lambda _: False)(choice)
        )
        path = f"{folder}/choice-{number}.toml"
        with open(path, "w") as file:
            file.write(local(f"{choice}\n{part}\n"))
        expect(f"relay.toml, choice {number}, with every key", ["--config", path])


def docker():
    stages = dockerfile_stages()
    final = image()
    channel = tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    base = dict(stages[0])["FROM"].split()[0]
    demand(base == f"rust:{channel}-alpine", f"the Dockerfile builds from {base}, and rust-toolchain.toml is {channel}")
    demand(final["USER"].split(":")[0] == "65532", "the image does not run as 65532")
    expect("the image", ["--domain=relay.example.com"], variables(final["ENV"]))
    demand(final["VOLUME"] == final["ENV"][PREFIX + "CERT_CACHE"], "the image's volume is not its certificate cache")
    relay = yaml.safe_load((PACKAGING / "docker" / "compose.yaml").read_text())["services"]["relay"]
    environment = variables(final["ENV"], relay["environment"], {PREFIX + "DOMAIN": "relay.example.com"})
    settings = expect("compose.yaml", [], environment)
    demand(
        seconds(relay["stop_grace_period"]) > stops_in(settings),
        "stop_grace_period is not above drain + shutdown-timeout",
    )
    folder_of_compose = PACKAGING / "docker"
    context = (folder_of_compose / relay["build"]["context"]).resolve()
    demand(context == ROOT, f"compose.yaml builds from {context}")
    demand((context / relay["build"]["dockerfile"]) == DOCKERFILE, "compose.yaml names another Dockerfile")


def build_context():
    """What .dockerignore lets through must be a complete workspace."""
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    for member in manifest["workspace"]["members"]:
        demand(any(member == k or member.startswith(k + "/") for k in kept), f".dockerignore leaves {member} out")
    for needed in ("Cargo.toml", "Cargo.lock", "packaging/docker/image-root"):
        demand(needed in kept, f".dockerignore leaves {needed} out")


def fly():
    manifest = tomllib.loads((PACKAGING / "fly" / "fly.toml").read_text())
    dockerfile = (PACKAGING / "fly" / manifest["build"]["dockerfile"]).resolve()
    demand(dockerfile == DOCKERFILE, f"fly.toml builds from {dockerfile}")
    args = shlex.split(local(manifest["processes"]["app"]))
    # The platform sets the name.
    environment = variables(image()["ENV"], manifest["env"], {"FLY_APP_NAME": "relay"})
    settings = expect("fly.toml", args, environment)
    demand(
        local(manifest["mounts"]["destination"]) == settings.get("cert-cache"),
        "fly.toml mounts no volume on the cert-cache",
    )
    demand(
        seconds(manifest["kill_timeout"]) > stops_in(settings), "kill_timeout is not above drain + shutdown-timeout"
    )
    listen = {str(service["internal_port"]) for service in manifest["services"]}
    asked = {settings.get(name, "").rpartition(":")[2] for name in ("http-listen", "https-listen")}
    demand(listen == asked, f"fly.toml's services lead to {listen}, the relay listens on {asked}")
    check = manifest["checks"]["ready"]
    demand(f":{check['port']}" == settings.get("health-listen"), "fly.toml's check asks another port than health-listen")


def kubernetes():
    documents = list(yaml.safe_load_all((PACKAGING / "kubernetes" / "relay.yaml").read_text()))
    pod = next(d for d in documents if d["kind"] == "Deployment")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    environment = {e["name"]: e["value"] for e in container["env"] if "value" in e}
    settings = expect("relay.yaml", container.get("args", ()), variables(image()["ENV"], environment))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    demand(f":{ports['https']}" == settings.get("https-listen"), "relay.yaml names another port than https-listen")
    demand(f":{ports['health']}" == settings.get("health-listen"), "relay.yaml names another port than health-listen")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        demand(container[probe]["httpGet"]["port"] == "health", f"{probe} does not ask the health port")
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    demand(
        pod["terminationGracePeriodSeconds"] > pause + stops_in(settings),
        "terminationGracePeriodSeconds is not above preStop + drain + shutdown-timeout",
    )
    demand(pod["enableServiceLinks"] is False, "service links would add variables named PYRYCODE_RELAY_...")


with tempfile.TemporaryDirectory(prefix="relay-deployments-") as folder:
    os.chmod(folder, 0o755)
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        + ["-subj", "/CN=relay.example.com", "-addext", "subjectAltName=DNS:relay.example.com"]
        + ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"],
        capture_output=True,
        text=True,
    )
    if made.returncode != 0:
        sys.exit(made.stderr)
    os.chmod(f"{folder}/key.pem", 0o644)
    os.mkdir(f"{folder}/certs", 0o700)
    if os.geteuid() == 0:
        os.chown(f"{folder}/certs", 65532, 65532)
    parts = [systemd, settings_file, docker, build_context, fly, kubernetes]
    for part in parts:
        part()

if mistakes:
    sys.exit("\n".join(mistakes))
print("systemd, relay.toml in its four choices, Docker, compose, Fly, Kubernetes: check-config agrees")
