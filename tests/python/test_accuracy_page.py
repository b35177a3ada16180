"""The accuracy page's emoji figures, measured again on a part of the pictures."""
import json
import subprocess
import sys

import pytest

from conftest import ROOT

RESULTS = sorted((ROOT / "bench/results/accuracy").glob("*.json"))
AGAIN = "emoji, drawn, every ninth"
# What another processor, or another order of sums, may change; eight bits round whole steps.
TOLERANCE = {"tf32": 1e-5, "fp16": 1e-5, "bf16": 2e-5, "int8": 5e-4, "fp8": 5e-4}


def entries():
    for path in RESULTS:
        for entry in json.loads(path.read_text(encoding="utf-8"))["entries"]:
            if entry["what"] == AGAIN and entry["lines"][0]["device"] == "cpu":
                yield pytest.param(entry, id=f"{path.stem}-{entry['precision']}")


def test_there_are_results_of_a_processor():
    assert any(True for _ in entries())


@pytest.mark.parametrize("entry", entries())
def test_emoji_figures_hold(tandem, entry):
    keep = [word for pattern in entry["keep"] for word in ("--keep", pattern)]
    ran = tandem("verify", *entry["arguments"], "--device", "cpu", "--precision", entry["precision"], *keep, "--json")
    if ran.code != 0 and ran.rows[-1].get("error", {}).get("code") == "unsupported":
        pytest.skip(ran.rows[-1]["error"]["message"])
    assert ran.code == 0, ran.err
    tolerance = TOLERANCE[entry["precision"]]
    for line, known in zip(ran.rows, entry["lines"], strict=True):
        assert line["items"] == known["items"]
        assert line["mean_cosine"] >= known["mean_cosine"] - tolerance
        assert line["min_cosine"] >= known["min_cosine"] - 10 * tolerance
    picture = 1.5 / entry["lines"][0]["items"]
    assert ran.rows[0]["top1_reference"] == pytest.approx(entry["lines"][0]["top1_reference"], abs=picture)
    assert ran.rows[0]["top1"] >= entry["lines"][0]["top1"] - 0.01


def test_the_page_is_made_of_the_results(tmp_path):
    def run(*flags):
        return subprocess.run([sys.executable, ROOT / "tools/make_accuracy.py", *flags, tmp_path], capture_output=True,
                              text=True)

    (tmp_path / "docs").mkdir()
    (tmp_path / "bench/results/accuracy").mkdir(parents=True)
    source = json.loads(RESULTS[0].read_text(encoding="utf-8"))
    target = tmp_path / "bench/results/accuracy/one.json"
    target.write_text(json.dumps(source))
    assert run("--check").returncode == 1  # no page yet
    assert run().returncode == 0 and run("--check").returncode == 0
    page = (tmp_path / "docs/accuracy.md").read_text()
    image = source["entries"][0]["lines"][0]
    assert f"{image['min_cosine']:.6f}" in page and f"{image['items']:,}" in page and source["isa"] in page
    source["entries"][0]["lines"][0]["min_cosine"] -= 0.01
    target.write_text(json.dumps(source))
    assert run("--check").returncode == 1
