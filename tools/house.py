"""What the checks of tools/ share: which files there are, which folders are layers, and how a check reports."""
import os
import pathlib
import re
import sys

SKIPPED = re.compile(r"^(build|build-.*|\..*|__pycache__)$")


def files_of(root):
    """Every file of the checkout that is not built, hidden or installed, as paths relative to it."""
    for folder, names, files in os.walk(root):
        names[:] = sorted(n for n in names if not SKIPPED.match(n))
        for name in sorted(files):
            yield (pathlib.Path(folder) / name).relative_to(root)


def layers_of(root):
    """The folders of src/ that are layers, as paths relative to it: those with a CMakeLists.txt of their own."""
    return [p.parent.relative_to(root / "src") for p in sorted((root / "src").rglob("CMakeLists.txt"))]


def line_of(text, position):
    """The number, from 1, of the line that a character is in."""
    return text.count("\n", 0, position) + 1


def run(check, praise):
    """Calls check(root) -> (files looked at, complaints); prints one line each, or `praise` with the count. 1 where there
    is a complaint or nothing was looked at."""
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    count, problems = check(root)
    print("\n".join(problems) or f"{count} {praise}")
    return 1 if problems or not count else 0
