"""Tests the alert rules, and asks every query of the dashboard and of the alerts of a real Prometheus that scrapes
real relays, in both text formats. A query that fails, or names a series that no relay exports, is a mistake.

Usage: monitoring.py PROGRAM (in a network namespace of its own with lo up)
"""

import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import yaml
from common import PACKAGING, ROOT, Service

PROMETHEUS = PACKAGING / "prometheus"
DASHBOARD = PACKAGING / "grafana" / "pyrycode-relay.json"
PREFIX = "pyrycode_relay_"
# Exported only with push, for which a relay needs credentials: the documentation must know them.
ONLY_WITH_PUSH = PREFIX + "push_"

# One behind a proxy, with traffic; one with TLS, for the series that only exist with a certificate.
PLAIN, PLAIN_METRICS = "127.0.0.1:8080", "127.0.0.1:9101"
TLS, TLS_METRICS = "127.0.0.1:8443", "127.0.0.1:9102"
# The first once more, for a scraper that knows the older format only.
CLASSIC = "127.0.0.1:9103"
API = "127.0.0.1:9104"

program = sys.argv[1]
mistakes = []


def run(*command, cwd=None):
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    if done.returncode != 0:
        mistakes.append(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
    return done


def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


class ClassicOnly(http.server.BaseHTTPRequestHandler):
    """Hands a scrape on without its Accept header."""

    def do_GET(self):
        content_type, text = get(f"http://{PLAIN_METRICS}{self.path}")
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def start(folder, name, *args):
    running = Service([program, *args], {"HOME": str(folder), "PATH": "/usr/bin:/bin"}, folder)
    running.wait_for("READY=1")
    return running


def query(expression, deadline=0.0):
    """The samples of an expression now; until the deadline it may have none."""
    while True:
        url = f"http://{API}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
        try:
            answer = json.loads(get(url)[1])
        except OSError as error:
            answer = {"status": "error", "error": f"{error} {getattr(error, 'fp', None) and error.fp.read().decode()}"}
        result = answer.get("data", {}).get("result", [])
        if result or time.monotonic() >= deadline:
            return answer["status"], answer.get("error", ""), result
        time.sleep(0.2)


def dashboard_queries():
    """Every query of the dashboard, with what Grafana puts in place of its variables."""
    dashboard = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(ids) != len(set(ids)):
        mistakes.append("the dashboard has two panels with one id")
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"].replace("$instance", ".*").replace("$__rate_interval", "10s")
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"].replace("$instance", ".*")
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            series = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
            yield variable["name"], f"count by ({series[2]}) ({series[1]})"


def alert_queries():
    for group in yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            if not all(rule["annotations"].get(text) for text in ("summary", "description")):
                mistakes.append(f"{rule['alert']}: summary and description say what it is and how to mend it")
            yield rule["alert"], rule["expr"]


def names(expression):
    """The series an expression reads."""
    return set(re.findall(rf"\b(?:{PREFIX}|process_)\w+", expression))


def scrape_config(folder):
    example = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    example["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (job,) = example["scrape_configs"]
    if job["job_name"] != "pyrycode-relay":
        mistakes.append("prometheus.yml: the alerts expect the job pyrycode-relay")
    job["static_configs"] = [{"targets": [PLAIN_METRICS, TLS_METRICS, CLASSIC]}]
    example["rule_files"] = [str(PROMETHEUS / "alerts.yaml")]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(example))
    return path


def check_formats():
    content_type, classic = get(f"http://{PLAIN_METRICS}/metrics")
    if not content_type.startswith("text/plain; version=0.0.4"):
        mistakes.append(f"without an Accept header: {content_type}")
    done = subprocess.run(["promtool", "check", "metrics"], input=classic, capture_output=True, text=True)
    if done.returncode != 0 or done.stdout or done.stderr:
        mistakes.append(f"promtool check metrics: {done.stdout}{done.stderr}")
    content_type, _ = get(f"http://{PLAIN_METRICS}/metrics", Accept="application/openmetrics-text")
    if not content_type.startswith("application/openmetrics-text; version=1.0.0"):
        mistakes.append(f"asked for OpenMetrics: {content_type}")


def check_queries():
    now = time.monotonic()
    status, error, up = query("min(up{job='pyrycode-relay'}) == 1 and count(up) == 3", now + 20)
    if not up:
        targets = json.loads(get(f"http://{API}/api/v1/targets")[1])["data"]["activeTargets"]
        mistakes.append(f"a scrape fails: {[(t['scrapeUrl'], t['lastError']) for t in targets]} {error}")
        return 0
    # A rate needs two scrapes.
    query(f"rate({PREFIX}frames_forwarded_total[10s]) > 0", time.monotonic() + 20)
    names_there = set(json.loads(get(f"http://{API}/api/v1/label/__name__/values")[1])["data"])
    documented = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs" / "metrics.md").read_text(), re.M))
    queries = [*dashboard_queries(), *alert_queries()]
    for title, expression in queries:
        status, error, _ = query(expression)
        if status != "success":
            mistakes.append(f"{title}: {expression}: {error}")
        for name in names(expression):
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            if not {name, base} & documented:
                mistakes.append(f"{title}: docs/metrics.md does not know {name}")
            if name not in names_there and not name.startswith(ONLY_WITH_PUSH):
                mistakes.append(f"{title}: no relay exports {name}")
    # Those about the traffic must have something to show.
    for title, expression in queries:
        if title in ("Ready", "Daemons", "Frames per second", "Bytes per second", "Certificate", "Processor"):
            _, _, result = query(expression, time.monotonic() + 10)
            if not result or all(value["value"][1] == "NaN" for value in result):
                mistakes.append(f"{title} shows nothing: {expression}")
    return len(queries)


def main():
    run("promtool", "check", "rules", PROMETHEUS / "alerts.yaml")
    run("promtool", "test", "rules", "alerts_test.yaml", cwd=PROMETHEUS)
    run("promtool", "check", "config", PROMETHEUS / "prometheus.yml")
    alerts = {name for name, _ in alert_queries()}
    tested = {test["name"] for test in yaml.safe_load((PROMETHEUS / "alerts_test.yaml").read_text())["tests"]}
    if alerts != tested:
        mistakes.append(f"alerts without a test, or tests without an alert: {alerts ^ tested}")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        plain = start(
            folder, "plain", "--insecure-listen", PLAIN, "--metrics-listen", PLAIN_METRICS, "--process-metrics"
        )
        tls = start(folder, "tls", "--self-signed", "--https-listen", TLS, "--metrics-listen", TLS_METRICS)
        classic = http.server.ThreadingHTTPServer(("127.0.0.1", int(CLASSIC.rpartition(":")[2])), ClassicOnly)
        threading.Thread(target=classic.serve_forever, daemon=True).start()
        check_formats()
        output = open(folder / "prometheus.log", "w+")
        prometheus = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={scrape_config(folder)}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={API}",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        stop = threading.Event()

        def traffic():
            while not stop.is_set():
                done = subprocess.run(
                    [program, "probe", "--skip-conflict", f"ws://{PLAIN}"], capture_output=True, text=True
                )
                if done.returncode != 0:
                    mistakes.append(f"probe: {done.stdout}{done.stderr}")
                    return
                stop.wait(0.5)

        peers = threading.Thread(target=traffic)
        peers.start()
        try:
            asked = check_queries()
        finally:
            stop.set()
            peers.join()
            prometheus.terminate()
            prometheus.wait(20)
        output.seek(0)
        errors = [line for line in output if "level=error" in line]
        if errors:
            mistakes.append("".join(errors))
        classic.shutdown()
        plain.stop()
        tls.stop()
    if mistakes:
        sys.exit("\n".join(mistakes))
    print(f"{len(alerts)} alerts tested, {asked} queries asked of a real Prometheus")


if __name__ == "__main__":
    os.umask(0o022)
    main()
