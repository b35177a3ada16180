"""The checks of tools/ fail when they must: each case breaks one rule of a small tree that is otherwise right."""
import json
import pathlib
import subprocess
import sys

import pytest

TOOLS = pathlib.Path(__file__).resolve().parent.parent.parent / "tools"

GOOD = {
    "tools/layers.txt": "tandem:\nbase: tandem\ntext: tandem base\ntext/fast: tandem text\n",
    "include/tandem/api.h": "#pragma once\n#include <string>\n",
    "src/base/CMakeLists.txt": "tandem_layer(base SOURCES a.cc)\n",
    "src/base/README.md": "Things. [see](../text/README.md) and [afar](https://example.org/x)\n",
    "src/base/a.h": "#include \"tandem/api.h\"\n",
    "src/base/a.cc": "#include \"base/a.h\"\n#include \"tandem/version.h\"\n",
    "src/text/CMakeLists.txt": "tandem_layer(text SOURCES t.cc\n  DEPENDS tandem::base tandem::api tandem::version)\n"
                               "tandem_fuzzer(text_fuzz SOURCES ${fuzz}/text_fuzz.cc)\n${unit}/t_test.cc\n",
    "src/text/README.md": "Texts.\n",
    "src/text/t.cc": "#include \"base/a.h\"\n",
    "src/text/fast/README.md": "Fast texts.\n",
    "src/text/fast/CMakeLists.txt": "\n",
    "tests/unit/text/t_test.cc": "\n",
    "tests/fuzz/text_fuzz.cc": "\n",
    "tests/fuzz/seeds/text_fuzz/one": "x\n",
}

LAYERS = [
    ("src/base/a.cc", "#include \"text/t.h\"\n", "no file below"),
    ("src/base/b.cc", "#include \"text/fast/f.h\"\n", "no file below"),
    ("src/base/b.h", "#include \"text/t.cc\"\n", "base may not include text/t.cc"),
    ("src/text/fast/f.cc", "#include \"base/a.h\"\n", "text/fast may not include base/a.h"),
    ("include/tandem/b.h", "#  include \"base/a.h\"\n", "tandem may not include base/a.h"),
    ("src/text/u.cc", "#include \"t.h\"\n", "no file below"),
    ("src/base/CMakeLists.txt", "tandem_layer(base DEPENDS\n tandem::text)\n", "base may not link text"),
    ("src/base/CMakeLists.txt", "tandem_layer(base PRIVATE_DEPENDS tandem::text_fast)\n", "may not link text/fast"),
    ("src/text/fast/CMakeLists.txt", "tandem_layer(text_fast DEPENDS tandem::base)\n", "text/fast may not link base"),
    ("src/other/o.cc", "int x;\n", "its folder has no line"),
    ("src/other/CMakeLists.txt", "\n", "layer without a line"),
    ("tools/layers.txt", GOOD["tools/layers.txt"] + "gone: base\n", "src/gone does not exist"),
    ("tools/layers.txt", GOOD["tools/layers.txt"] + "base: tandem\n", "second time"),
    ("tools/layers.txt", GOOD["tools/layers.txt"].replace("base: tandem", "base: tandem text"), "a cycle"),
    ("tools/layers.txt", GOOD["tools/layers.txt"].replace("base: tandem", "base: tandem ghost"), "no line of its own"),
]

RULES = [
    ("src/text/fast/README.md", None, "no README.md"),
    ("src/text/t.cc", "int x;\n" * 601, "601 lines"),
    ("src/text/t.cc", "// FIX" + "ME: later\n", "unfinished"),
    ("tests/unit/text/u_test.cc", "\n", "never built"),
    ("tests/fuzz/seeds/text_fuzz/one", None, "no seeds"),
    ("src/base/README.md", "[gone](../gone.md)\n", "leads nowhere"),
    ("tools/run.sh", "#!/bin/sh\n", "not executable"),
]


def make_tree(root, files):
    for name, text in files.items():
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return root


def run(script, *args):
    return subprocess.run([sys.executable, TOOLS / script, *args], capture_output=True, text=True)


@pytest.mark.parametrize("script", ["check_layers.py", "check_house.py"])
def test_a_right_tree_passes(script, tmp_path):
    result = run(script, make_tree(tmp_path, GOOD))
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("script", ["check_layers.py", "check_house.py"])
def test_an_empty_tree_does_not_pass(script, tmp_path):
    result = run(script, make_tree(tmp_path, {"tools/layers.txt": ""} if script == "check_layers.py" else {}))
    assert result.returncode != 0


@pytest.mark.parametrize(("script", "path", "text", "complaint"),
                         [("check_layers.py", *case) for case in LAYERS] + [("check_house.py", *case) for case in RULES])
def test_a_broken_rule_is_named(script, path, text, complaint, tmp_path):
    result = run(script, make_tree(tmp_path, GOOD | {path: text}))
    assert result.returncode == 1
    assert complaint in result.stdout
    assert len(result.stdout.splitlines()) == 1, result.stdout


def report(*cases):
    return "<testsuites><testsuite>" + "".join(cases) + "</testsuite></testsuites>"


PASSED = '<testcase name="a" status="run"/>'


@pytest.mark.parametrize(("xml", "line", "code"), [
    (report(PASSED, PASSED), "2 passed, 0 failed, 0 skipped", 0),
    (report(PASSED, '<testcase name="b" status="fail"><failure/></testcase>'), "1 passed, 1 failed, 0 skipped", 1),
    (report(PASSED, '<testcase name="b"><error/></testcase>'), "1 passed, 1 failed, 0 skipped", 1),
    (report(PASSED, '<testcase name="b" status="notrun"><skipped message="no GPU"/></testcase>'),
     "1 passed, 0 failed, 1 skipped", 0),
    (report('<testcase name="b"><skipped/></testcase>'), "0 passed, 0 failed, 1 skipped", 1),
    (report(), "0 passed, 0 failed, 0 skipped", 1),
])
def test_reports_are_added_up(xml, line, code, tmp_path):
    (tmp_path / "r.xml").write_text(xml)
    result = run("sum_tests.py", tmp_path / "r.xml")
    assert result.stdout.splitlines()[-1] == line
    assert result.returncode == code


def test_a_missing_report_fails(tmp_path):
    assert run("sum_tests.py", tmp_path / "none.xml").returncode == 1


README = ("# T\n<!-- figures: made by tools/make_figures.py from bench/results -->\n"
          "<!-- end of figures -->\nrest\n")


def test_the_table_of_figures_is_made_of_the_results(tmp_path):
    comparisons = [
        {"what": "images", "unit": "images/s", "better": "higher", "tandem": 120.0, "peers": {"A": 90.0, "B": 100.0},
         "readme": True},
        {"what": "start", "unit": "s", "better": "lower", "tandem": 0.5, "peers": {"A": 4.0, "B": 2.0}, "readme": True},
        {"what": "hidden", "unit": "s", "better": "lower", "tandem": 1, "peers": {}},
    ]
    result = {"machine": "a laptop", "comparisons": comparisons}
    make_tree(tmp_path, {"README.md": README, "bench/results/one.json": json.dumps(result)})
    assert run("make_figures.py", "--check", tmp_path).returncode == 1
    assert run("make_figures.py", tmp_path).returncode == 0
    assert run("make_figures.py", "--check", tmp_path).returncode == 0
    text = (tmp_path / "README.md").read_text()
    assert "| images | **120** images/s | 100 (B) | 1.20x |" in text
    assert "| start | **0.500** s | 2.00 (B) | 4.00x |" in text
    assert "hidden" not in text and text.startswith("# T\n") and text.endswith("rest\n")
    result["comparisons"][0]["tandem"] = 130.0
    (tmp_path / "bench/results/one.json").write_text(json.dumps(result))
    assert run("make_figures.py", "--check", tmp_path).returncode == 1
