#!/usr/bin/env python3
"""Writes the README's table of measured figures from bench/results/*.json (bench/README.md has the format).

usage: make_figures.py [--check] [ROOT]

The table stands between two comments in README.md. With --check nothing is written, and the exit code is 1 when the
table is not what the results say.
"""
import json
import pathlib
import sys

BEGIN = "<!-- figures: made by tools/make_figures.py from bench/results -->"
END = "<!-- end of figures -->"


def shown(value):
    """Three significant digits, without an exponent."""
    if value >= 1000:
        return f"{value:,.0f}"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def row(comparison):
    """One comparison as a line of the table; the ratio is above 1 where Tandem is better."""
    higher = {"higher": True, "lower": False}[comparison["better"]]
    ours, unit = comparison["tandem"], comparison["unit"]
    if not comparison["peers"]:
        return f"| {comparison['what']} | **{shown(ours)}** {unit} | – | – |"
    choose = max if higher else min
    name = choose(comparison["peers"], key=comparison["peers"].get)
    theirs = comparison["peers"][name]
    ratio = ours / theirs if higher else theirs / ours
    return f"| {comparison['what']} | **{shown(ours)}** {unit} | {shown(theirs)} ({name}) | {ratio:.2f}x |"


def table(folder):
    """The whole text between the markers."""
    lines = ["| what | Tandem | best peer, same run | |", "|---|---|---|---|"]
    machines = []
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        rows = [row(c) for c in result["comparisons"] if c.get("readme")]
        if rows:
            lines += rows
            if result["machine"] not in machines:
                machines.append(result["machine"])
    if not machines:
        return ""
    return "\n".join(lines) + "\n\nMeasured on " + "; ".join(machines) + ". Commands: `bench/results`.\n"


def main():
    arguments = [a for a in sys.argv[1:] if a != "--check"]
    root = pathlib.Path(arguments[0] if arguments else pathlib.Path(__file__).parent.parent)
    readme = root / "README.md"
    text = readme.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print(f"make_figures: README.md lacks the line {END if begin else BEGIN}", file=sys.stderr)
        return 1
    wanted = before + BEGIN + "\n" + table(root / "bench/results") + END + after
    if "--check" in sys.argv[1:]:
        if wanted != text:
            print("README.md's table is not what bench/results says: run tools/make_figures.py", file=sys.stderr)
        return int(wanted != text)
    readme.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
