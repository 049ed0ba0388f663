"""Judges a kosoku report: every case OK, except what the endpoint deliberately doesn't offer.

Usage: autobahn-verdict.py REPORT-FOLDER
"""

import json
import pathlib
import sys
from collections import Counter

CASES = 517
# Compression is never negotiated; its cases can only be UNIMPLEMENTED.
COMPRESSION = {"12", "13"}
# Some cases only inform: the standard leaves the behaviour open.
FINE = {"OK", "INFORMATIONAL"}

report = json.loads((pathlib.Path(sys.argv[1]) / "index.json").read_text())
(cases,) = report.values()
bad = []
for number, case in cases.items():
    section = number.split(".")[0]
    fine = FINE | ({"UNIMPLEMENTED"} if section in COMPRESSION else set())
    verdict = case["behavior"], case["behaviorClose"]
    if not set(verdict) <= fine:
        bad.append(f"{number}: behaviour {verdict[0]}, close {verdict[1]} ({case['reportfile']})")

counts = Counter(case["behavior"] for case in cases.values())
print("autobahn:", len(cases), "cases:", ", ".join(f"{n} {what}" for what, n in counts.items()))
if len(cases) < CASES:
    bad.append(f"only {len(cases)} of {CASES} cases ran")
if bad:
    sys.exit("autobahn: FAILED\n" + "\n".join(bad))
