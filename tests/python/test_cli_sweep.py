"""tandem bench --sweep: its JSON, table and plots; what it recommends; the named modes."""
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from conftest import TINY

SVG = "{http://www.w3.org/2000/svg}"
MODES = ["default", "fast", "accurate", "lite", "cpu", "batch"]


@pytest.fixture(scope="module")
def swept(tandem, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "new"
    ran = tandem("bench", "--sweep", "--model", TINY / "hf_quickgelu", "--device", "cpu", "--batches", "4,1,2",
                 "--sweep-seconds", 2, "--output", folder, "--json")
    assert ran.code == 0, ran.err
    return ran.rows[0], folder


def test_every_precision_at_every_batch(swept, tandem):
    result, folder = swept
    assert json.loads((folder / "sweep.json").read_text()) == result
    precisions = [run["precision"] for run in result["runs"]]
    assert precisions[0] == "fp32" and len(set(precisions)) == len(precisions)
    if "bf16" in tandem("info", "--json").rows[0]["isa"]:
        assert "bf16" in precisions
    for run in result["runs"]:
        assert [point["batch"] for point in run["points"]] == [1, 2, 4] and run["left_out"] is None
        for point in run["points"]:
            assert point["runs"] >= 3
            assert 0 < point["min_ms"] <= point["median_ms"] <= point["p95_ms"] <= point["p99_ms"]
            assert point["quantiles_ms"] == sorted(point["quantiles_ms"]) and len(point["quantiles_ms"]) == 21
            assert point["per_second"] == pytest.approx(point["batch"] / point["mean_ms"] * 1000)
            assert point["memory_bytes"] > run["weight_bytes"] > 0
        memory = [point["memory_bytes"] for point in run["points"]]
        assert memory == sorted(memory) and memory[0] < memory[-1]
        stages = " / ".join(stage["stage"] for stage in run["stages"])
        assert "attention" in stages and "q, k, v" in stages and all(stage["ms"] >= 0 for stage in run["stages"])
    exact = result["runs"][0]
    assert exact["min_cosine"] == pytest.approx(1, abs=1e-9)
    for run in result["runs"][1:]:
        assert 0.9 < run["min_cosine"] <= run["mean_cosine"] < 1
        assert run["weight_bytes"] < exact["weight_bytes"]


def test_recommendations_are_the_best_of_what_was_measured(swept):
    result, _ = swept
    fitting = [(run, point) for run in result["runs"] if run["min_cosine"] >= 0.99 for point in run["points"]]
    best = {r["goal"]: r for r in result["recommended"]}
    assert best["latency"]["median_ms"] == min(p["median_ms"] for _, p in fitting if p["batch"] == 1)
    assert best["throughput"]["per_second"] == max(p["per_second"] for _, p in fitting)
    assert best["memory"]["memory_bytes"] == min(p["memory_bytes"] for _, p in fitting)
    for goal in ("throughput", "memory"):
        assert best[goal]["flags"] == (f"--device {best[goal]['device']} --precision {best[goal]['precision']} "
                                       f"--max-batch {best[goal]['batch']}")


def points_of(line):
    return [tuple(map(float, point.split(","))) for point in line.get("points").split()]


def test_plots_are_drawings_with_the_points(swept):
    result, folder = swept
    plots = sorted(folder.glob("*.svg"))
    assert {p.name for p in plots} >= {"throughput.svg", "latency.svg", "distribution.svg", "stages-cpu-fp32.svg"}
    for path in plots:
        root = ElementTree.parse(path).getroot()
        assert root.tag == f"{SVG}svg" and root.find(f"{SVG}title").text and root.find(f"{SVG}desc").text
        assert "prefers-color-scheme: dark" in root.find(f"{SVG}style").text
        assert f"({path.name})" in (folder / "sweep.md").read_text()
    root = ElementTree.parse(folder / "throughput.svg").getroot()
    lines = root.findall(f"{SVG}polyline")
    assert len(lines) == len(result["runs"])
    # Heights are proportional to the rates, from the axis upwards; batches are equally far apart.
    rates = [point["per_second"] for run in result["runs"] for point in run["points"]]
    drawn = [point for line in lines for point in points_of(line)]
    bottom = max(float(n) for n in re.findall(r"V?L[0-9.]+ ([0-9.]+)", (folder / "throughput.svg").read_text()))
    scale = [(bottom - y) / rate for (_, y), rate in zip(drawn, rates, strict=True)]
    assert max(scale) * max(rates) == pytest.approx(min(scale) * max(rates), abs=max(rates) / min(rates) + 2)
    first = points_of(lines[0])
    assert first[1][0] - first[0][0] == pytest.approx(first[2][0] - first[1][0], abs=0.2)
    pie = ElementTree.parse(folder / "stages-cpu-fp32.svg").getroot()
    shown = [s for s in result["runs"][0]["stages"] if s["ms"] > 0]
    assert len([p for p in pie.findall(f"{SVG}path") if p.find(f"{SVG}title") is not None]) == len(shown)


def test_the_table_has_a_row_for_each(swept):
    result, folder = swept
    text = (folder / "sweep.md").read_text()
    for run in result["runs"]:
        assert f"| cpu | {run['precision']} | " in text
    for mode in MODES:
        assert f"| {mode} |" in text
    assert [m["mode"] for m in result["modes"]] == MODES


def test_limits_choose_and_time_ends_it(tandem):
    ran = tandem("bench", "--sweep", "--model", TINY / "hf_quickgelu", "--device", "cpu", "--precisions", "fp32",
                 "--batches", "1,2,65536", "--sweep-seconds", "0.3", "--max-latency-ms", "1e-6", "--goal", "memory", "--json")
    assert ran.code == 0, ran.err
    result, = ran.rows
    run, = result["runs"]
    assert [1, 2, 65536][: len(run["points"])] == [point["batch"] for point in run["points"]]
    assert len(run["points"]) < 3 and f"from {[1, 2, 65536][len(run['points'])]} " in run["left_out"]
    assert all(r["flags"] is None for r in result["recommended"])  # nothing is so fast
    assert result["limits"] == {"goal": "memory", "max_latency_ms": 1e-6, "min_cosine": 0.99}


def test_people_get_the_table(tandem):
    ran = tandem("bench", "--sweep", "--model", TINY / "hf_quickgelu", "--what", "text", "--device", "cpu", "--batches", "1",
                 "--sweep-seconds", "0.5", "--precisions", "fp32")
    assert ran.code == 0, ran.err
    assert "texts/s" in ran.out and "tandem serve --model" in ran.out


@pytest.mark.parametrize("flags, said", [
    (["--batches", "1,none"], "none"),
    (["--batches", ""], "--batches"),
    (["--precisions", "fp7"], "fp7"),
    (["--goal", "beauty"], "beauty"),
    (["--batch", "4"], "--batch"),
    (["--stages"], "--stages"),
])
def test_mistakes(tandem, flags, said):
    ran = tandem("bench", "--sweep", *flags)
    assert ran.code == 2 and said in ran.err


def test_a_file_is_no_folder_for_it(tandem, tmp_path):
    (tmp_path / "there").write_text("x")
    ran = tandem("bench", "--sweep", "--model", TINY / "hf_quickgelu", "--output", tmp_path / "there")
    assert ran.code == 1 and "there" in ran.err


def embedded(tandem, tmp_path, *flags, env=None):
    texts = tmp_path / "t.txt"
    texts.write_text("red heart\n")
    ran = tandem("embed", "--texts", texts, "--provenance", *flags, env=env)
    assert ran.code == 0, ran.err
    row, = ran.rows
    return row["precision"], row["device"]


def test_embed_takes_modes_and_flags_win(tandem, tmp_path):
    has_bf16 = "bf16" in tandem("info", "--json").rows[0]["isa"]
    sixteen = "bf16" if has_bf16 else "fp32"
    assert embedded(tandem, tmp_path, "--mode", "cpu") == (sixteen, "cpu")
    assert embedded(tandem, tmp_path, "--mode", "accurate", "--device", "cpu") == ("fp32", "cpu")
    assert embedded(tandem, tmp_path, "--mode", "batch", "--device", "cpu")[0] == sixteen
    assert embedded(tandem, tmp_path, "--mode", "batch", "--precision", "fp32", "--device", "cpu")[0] == "fp32"
    assert embedded(tandem, tmp_path, "--mode", "cpu", env={"TANDEM_PRECISION": "fp32"})[0] == "fp32"
    assert embedded(tandem, tmp_path, "--mode", "cpu", "--device", "reference")[1] == "reference"
    assert embedded(tandem, tmp_path, "--device", "cpu", env={"TANDEM_MODE": "accurate"})[0] == "fp32"


def test_modes_are_explained_and_checked(tandem):
    for command in ("serve", "embed"):
        text = tandem(command, "--help").out
        assert "--mode" in text and all(f"{mode}: " in text for mode in MODES)
        ran = tandem(command, "--mode", "turbo")
        assert ran.code == 2 and "turbo" in ran.err and "accurate" in ran.err
