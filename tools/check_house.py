#!/usr/bin/env python3
"""Checks the rules of the house that no compiler knows.

usage: check_house.py [ROOT]      ROOT is the checkout (default: the one this file is in)

Fails, one line each, where: a layer of src/ has no README.md; a source is longer than 600 lines; the product says that
it is unfinished; a unit test or fuzzer is in the tree but in no CMakeLists.txt, so that it never runs; a fuzzer has no
seeds; a link in a Markdown page leads nowhere; a script of tools/ that is meant to be run is not executable.
"""
import os
import re
import sys

import house

LONGEST = 600
SOURCES = {".cc", ".h", ".cu", ".cuh", ".py", ".sh", ".js", ".css", ".html", ".cmake"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b|\bnot implemented\b", re.IGNORECASE)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")


def check(root):
    """Returns (number of files looked at, list of complaints)."""
    problems = []
    files = list(house.files_of(root))
    for folder in house.layers_of(root):
        if not (root / "src" / folder / "README.md").is_file():
            problems.append(f"src/{folder}: no README.md (what lives here, what never does, how to add one)")

    for path in files:
        if path.suffix not in SOURCES:
            continue
        text = (root / path).read_text(errors="replace")
        lines = text.count("\n")
        if lines > LONGEST:
            problems.append(f"{path}: {lines} lines; split it where there is a seam (at most {LONGEST})")
        if path.parts[0] in ("src", "include", "python", "web"):
            for match in UNFINISHED.finditer(text):
                problems.append(f"{path}:{house.line_of(text, match.start())}: unfinished: {match[0]}")

    built = "\n".join((root / p).read_text() for p in files if p.name == "CMakeLists.txt")
    for path in files:
        kind = "/".join(path.parts[:2])
        if path.suffix != ".cc" or kind not in ("tests/unit", "tests/fuzz"):
            continue
        if not re.search(rf"\b{re.escape(path.stem)}\b", built):
            problems.append(f"{path}: in no CMakeLists.txt, so it is never built")
        if kind == "tests/fuzz":
            seeds = [root / "tests/fuzz/seeds" / name for name in (path.stem, path.stem.removesuffix("_fuzz"))]
            if not any(folder.is_dir() and any(folder.iterdir()) for folder in seeds):
                problems.append(f"{path}: no seeds in tests/fuzz/seeds/{path.stem}")

    for path in files:
        if path.suffix == ".md":
            for match in LINK.finditer((root / path).read_text()):
                target = match[1]
                if "://" not in target and not target.startswith("mailto:") and not (root / path.parent / target).exists():
                    problems.append(f"{path}: the link to {target} leads nowhere")

    for path in files:
        if path.suffix in (".sh", ".py") and path.parts[0] == "tools" and (root / path).read_bytes().startswith(b"#!"):
            if not os.access(root / path, os.X_OK):
                problems.append(f"{path}: starts with #! but is not executable")
    return len(files), problems


if __name__ == "__main__":
    sys.exit(house.run(check, "files keep the rules of the house"))
