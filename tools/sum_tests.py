#!/usr/bin/env python3
"""Adds up JUnit reports into one line: "N passed, N failed, N skipped".

usage: sum_tests.py REPORT.xml…

Says which tests were skipped and why, those with one reason together. Exits with 1 if a report is missing, if a test
failed, or if nothing passed.
"""
import re
import sys
import xml.etree.ElementTree as ElementTree


def reason(case, skipped):
    """Why a test was skipped: what GoogleTest printed, or what the report says."""
    printed = re.search(r": Skipped\n(.+)", case.findtext("system-out") or "")
    if printed:
        return printed[1].strip()
    return (skipped.get("message") if skipped is not None else None) or "no reason given"


def count(paths):
    """Returns (passed, failed, skipped) with skipped as {reason: names}."""
    passed = failed = 0
    skipped = {}
    for path in paths:
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            children = {child.tag: child for child in case}
            if case.get("status") == "fail" or "failure" in children or "error" in children:
                failed += 1
            elif case.get("status") in ("notrun", "disabled") or "skipped" in children:
                name = (case.get("name") or "?").split("  # GetParam()")[0]
                skipped.setdefault(reason(case, children.get("skipped")), []).append(name)
            else:
                passed += 1
    return passed, failed, skipped


def main(paths):
    try:
        passed, failed, skipped = count(paths)
    except (OSError, ElementTree.ParseError) as error:
        print(f"sum_tests: a test report cannot be read: {error}", file=sys.stderr)
        return 1
    for why, names in skipped.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        print(f"skipped ({why}): {', '.join(names[:3])}{more}")
    print(f"{passed} passed, {failed} failed, {sum(map(len, skipped.values()))} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
