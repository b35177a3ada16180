#!/usr/bin/env python3
"""Checks that the sources keep to tools/layers.txt.

usage: check_layers.py [ROOT]      ROOT is the checkout (default: the one this file is in)

Fails, one line each, on: an include of a folder that layers.txt does not allow; a quoted include that names no file of
the project (paths start at src/, include/ or tests/, never at the including file); a folder of src/ that has its own
CMakeLists.txt but no line in layers.txt; a layer that links a library of a folder that it may not include (the name
tandem::api is what include/tandem declares); a line for a folder that does not exist; an allowance for an undeclared
folder; a cycle among the allowances.
"""
import graphlib
import re
import sys

import house

SOURCES = {".cc", ".h", ".inc", ".cu", ".cuh"}
# Written by the build, so not in the tree.
GENERATED = {"tandem/version.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<(tandem/[^>]+)>)', re.MULTILINE)
LAYER = re.compile(r"^tandem_layer\(([^)]*)\)", re.MULTILINE)
# Made by the build, and no folder's.
LIBRARIES = {"version"}


def read_layers(path):
    """Returns {folder: set of folders it may include} and the complaints about the file itself."""
    layers, problems = {}, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        folder, colon, allowed = line.partition(":")
        if not colon or folder in layers:
            problems.append(f"tools/layers.txt:{number}: not 'folder: folders', or a folder for the second time")
            continue
        layers[folder.strip()] = set(allowed.split())
    for folder, allowed in layers.items():
        for name in sorted(allowed - layers.keys()):
            problems.append(f"tools/layers.txt: {folder} may include {name}, which has no line of its own")
    try:
        graphlib.TopologicalSorter(layers).prepare()
    except graphlib.CycleError as error:
        problems.append("tools/layers.txt: a cycle: " + " -> ".join(error.args[1]))
    return layers, problems


def folder_of(path, layers):
    """The declared folder that a path such as backend/cpu/attention.cc belongs to: the longest that fits, or None."""
    parts = path.split("/")[:-1]
    for length in range(len(parts), 0, -1):
        if "/".join(parts[:length]) in layers:
            return "/".join(parts[:length])
    return None


def linked(text, layers):
    """The folders whose libraries the layers of a CMakeLists.txt link; tandem::backend_cpu is backend/cpu's."""
    for match in LAYER.finditer(text):
        for name in re.findall(r"\btandem::(\w+)", match[1]):
            path = name.replace("_", "/")
            if name not in LIBRARIES:
                yield "tandem" if name == "api" else path if path in layers else name


def check(root):
    """Returns (number of files read, list of complaints)."""
    layers, problems = read_layers(root / "tools/layers.txt")
    for folder in layers:
        if folder != "tandem" and not (root / "src" / folder).is_dir():
            problems.append(f"tools/layers.txt: src/{folder} does not exist")
    for folder in (path.as_posix() for path in house.layers_of(root)):
        if folder not in layers:
            problems.append(f"src/{folder} is a layer without a line in tools/layers.txt")
            continue
        for other in linked((root / "src" / folder / "CMakeLists.txt").read_text(), layers):
            if other != folder and other not in layers[folder]:
                problems.append(f"src/{folder}/CMakeLists.txt: {folder} may not link {other} (tools/layers.txt)")

    count = 0
    for file in house.files_of(root):
        if file.parts[0] not in ("src", "include") or file.suffix not in SOURCES:
            continue
        count += 1
        own = folder_of("/".join(file.parts[1:]), layers)
        if own is None:
            problems.append(f"{file}: its folder has no line in tools/layers.txt")
            continue
        text = (root / file).read_text()
        for match in INCLUDE.finditer(text):
            name = match[1] or match[2]
            line = house.line_of(text, match.start(match.lastindex))
            if name not in GENERATED and not (root / "src" / name).is_file() and not (root / "include" / name).is_file():
                problems.append(f'{file}:{line}: "{name}" is no file below src/ or include/')
                continue
            other = folder_of(name, layers)
            if other is None or (other != own and other not in layers[own]):
                problems.append(f"{file}:{line}: {own} may not include {name} (tools/layers.txt)")
    return count, problems


if __name__ == "__main__":
    sys.exit(house.run(check, "files keep to tools/layers.txt"))
