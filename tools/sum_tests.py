#!/usr/bin/env python3
"""Adds up JUnit reports into one line: "N passed, N failed, N skipped".

usage: sum_tests.py REPORT.xml…

Names the tests that were skipped, with the reason where there is one. Exits with 1 if a report is missing, if a test
failed, or if nothing passed.
"""
import sys
import xml.etree.ElementTree as ElementTree


def count(paths):
    """Returns (passed, failed, skipped) with skipped as a list of "name: reason"."""
    passed = failed = 0
    skipped = []
    for path in paths:
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            children = {child.tag: child for child in case}
            if case.get("status") == "fail" or "failure" in children or "error" in children:
                failed += 1
            elif case.get("status") in ("notrun", "disabled") or "skipped" in children:
                reason = children["skipped"].get("message", "") if "skipped" in children else ""
                skipped.append(f"{case.get('name')}: {reason}")
            else:
                passed += 1
    return passed, failed, skipped


def main(paths):
    try:
        passed, failed, skipped = count(paths)
    except (OSError, ElementTree.ParseError) as error:
        print(f"sum_tests: a test report cannot be read: {error}", file=sys.stderr)
        return 1
    for line in skipped:
        print(f"skipped: {line}")
    print(f"{passed} passed, {failed} failed, {len(skipped)} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
