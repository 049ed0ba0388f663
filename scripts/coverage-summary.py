#!/usr/bin/env python3
"""The lines of an lcov file as a table: for each file of the program how many were run, and which were not.

Usage: coverage-summary.py LINES.lcov. Tests inside the files are left out, as are files that are only tests.
"""

import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def runs(path):
    """How often each line was run, of each file: `{file: {line: count}}`."""
    counts, lines = collections.defaultdict(collections.Counter), None
    for row in pathlib.Path(path).read_text().splitlines():
        kind, _, rest = row.partition(":")
        if kind == "SF":
            lines = counts[pathlib.Path(rest)]
        elif kind == "DA":
            line, count = rest.split(",")[:2]
            # A file may be in there for several programs.
            lines[int(line)] += int(count)
    return counts


def test_lines(text):
    """The numbers of lines in modules for tests, which rustfmt ends at the indentation of their beginning."""
    found, end = set(), None
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if end is None and line.strip() == "#[cfg(test)]" and lines[number].rstrip().endswith("{"):
            end = line[: len(line) - len(line.lstrip())] + "}"
        if end is not None:
            found.add(number)
            if line == end:
                end = None
    return found


def ranges(numbers):
    """`3-5 9`"""
    text, start, last = [], None, None
    for number in [*sorted(numbers), None]:
        if start is not None and number != last + 1:
            text.append(f"{start}-{last}" if last > start else f"{start}")
            start = None
        if start is None:
            start = number
        last = number
    return " ".join(text)


def main():
    rows, sums = [], collections.defaultdict(lambda: [0, 0])
    for path, counts in sorted(runs(sys.argv[1]).items()):
        inside = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
        if not re.match(r"crates/\w+/src/", inside) or re.search(r"tests?\.rs$|/testing\.rs$|/fixture\.rs$", inside):
            continue
        ours = counts.keys() - test_lines(path.read_text())
        missed = {line for line in ours if counts[line] == 0}
        if ours:
            rows.append((inside, len(ours), missed))
            parts = inside.split("/")
            for group in ("all", parts[1], "/".join([parts[1], parts[3].removesuffix(".rs")])):
                sums[group][0] += len(ours)
                sums[group][1] += len(missed)
    print("| part | lines | run | |\n|---|---|---|---|")
    for group, (all_lines, missed) in sorted(sums.items()):
        print(f"| {group} | {all_lines} | {all_lines - missed} | {100 * (1 - missed / all_lines):.1f} % |")
    print("\n| file | lines | run | not run |\n|---|---|---|---|")
    for path, all_lines, missed in rows:
        print(f"| {path} | {all_lines} | {100 * (1 - len(missed) / all_lines):.1f} % | {ranges(missed)} |")


main()
