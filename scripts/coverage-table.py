"""Line and region coverage of each file and crate, without the code of tests, from what llvm-cov exported.

Usage: coverage-table.py FOLDER, which has lcov.info and regions.json. Prints a table, and writes it to table.txt and
each line that was not reached to untested.txt.
"""

import collections
import functools
import json
import pathlib
import re
import sys

folder = pathlib.Path(sys.argv[1])
root = pathlib.Path.cwd()


@functools.cache
def test_modules():
    """The files, without their endings, of modules that are only compiled for tests; others may be below them."""
    declared = re.compile(r'#\[cfg\(test\)\]\s+(?:#\[path = "(.+)\.rs"\]\s+)?(?:pub(?:\(\w+\))? )?mod (\w+);')
    found = set()
    for parent in root.glob("crates/*/src/**/*.rs"):
        path = parent.relative_to(root)
        own = path.parent if path.stem in ("lib", "main", "mod") else path.with_suffix("")
        for other_path, name in declared.findall(parent.read_text()):
            found.add(path.parent / other_path if other_path else own / name)
    return found


def is_test_file(path):
    """Whether the file is only compiled for tests."""
    return path.parts[2] != "src" or any(p in test_modules() for p in (path.with_suffix(""), *path.parents))


def test_lines(text):
    """The numbers of the lines that are only compiled for tests. rustfmt has seen to the indentation."""
    found, end = set(), None
    for number, line in enumerate(text.splitlines(), 1):
        if end is None and line.strip() == "#[cfg(test)]":
            indent = line[: len(line) - len(line.lstrip())]
            end = re.compile(rf"{indent}(\}}|\S.*;$)")
        if end is not None:
            found.add(number)
            if end.match(line):
                end = None
    return found


class File:
    """What was counted in one source file."""

    def __init__(self, path):
        self.text = (root / path).read_text().splitlines()
        self.skipped = test_lines("\n".join(self.text))
        self.lines = collections.Counter()
        self.regions = collections.Counter()

    def untested(self):
        """The numbers of the lines that were not reached."""
        return [number for number, count in sorted(self.lines.items()) if count == 0]


files = {}


def file(name):
    """The file of that name, if it is counted."""
    path = pathlib.Path(name)
    path = path.relative_to(root) if path.is_relative_to(root) else path
    if path.parts[0] != "crates" or is_test_file(path):
        return None
    if path not in files:
        files[path] = File(path)
    return files[path]


def read_lines():
    """Takes in how often each line was reached."""
    current = None
    for line in (folder / "lcov.info").read_text().splitlines():
        if line.startswith("SF:"):
            current = file(line[3:])
        elif line.startswith("DA:") and current:
            number, count = map(int, line[3:].split(",")[:2])
            if number not in current.skipped:
                current.lines[number] += count


def read_regions():
    """Takes in how often each region was reached, over all instances of generic functions."""
    code = 0
    for function in json.loads((folder / "regions.json").read_text())["data"][0]["functions"]:
        for *span, count, of, _, kind in function["regions"]:
            current = file(function["filenames"][of]) if kind == code else None
            if current and span[0] not in current.skipped:
                current.regions[tuple(span)] += count


def row(name, of):
    """A line of the table about some files."""
    columns = []
    for counts in ([f.lines for f in of], [f.regions for f in of]):
        total = sum(len(c) for c in counts)
        missed = sum(n == 0 for c in counts for n in c.values())
        columns.append(f"{total:6} {missed:6} {100 * (total - missed) / max(total, 1):6.1f} %")
    return f"{name:52} " + "   ".join(columns)


read_lines()
read_regions()
table = [f"{'':52}  lines missed           regions missed"]
for path in sorted(files):
    table.append(row(str(path), [files[path]]))
table.append("")
for crate in sorted({path.parts[1] for path in files}):
    table.append(row(f"crates/{crate}", [f for path, f in files.items() if path.parts[1] == crate]))
table.append(row("all", list(files.values())))
(folder / "table.txt").write_text("\n".join(table) + "\n")
with (folder / "untested.txt").open("w") as out:
    for path in sorted(files):
        for number in files[path].untested():
            print(f"{path}:{number}: {files[path].text[number - 1]}", file=out)
print("\n".join(table))
