"""tandem classify, search and bench."""
import json
import math

import numpy
import pytest
import tensors
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures")
    rng = numpy.random.default_rng(3)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), numpy.uint8)).save(path / f"{i:02}.png")
    (path / "broken.png").write_bytes(b"no picture")
    return path


def vectors(tandem, model, *args):
    rows = tandem("embed", "--model", model, "--precision", "fp32", *args).rows
    return {r["input"]: numpy.array(r["embedding"]) for r in rows if "embedding" in r}


LABELS = ["red heart", "green apple", "cat"]


def test_classify_is_a_softmax_over_cosines(tandem, tiny, folder):
    ran = tandem("classify", "--model", tiny, "--precision", "fp32", "--labels", ",".join(LABELS), "--template", "{}", "--json",
                 folder / "00.png", folder / "broken.png", folder / "01.png")
    assert ran.code == 3
    assert [r["input"] for r in ran.rows] == [str(folder / n) for n in ("00.png", "broken.png", "01.png")]
    assert "error" in ran.rows[1]
    texts = tandem("embed", "--model", tiny, "--precision", "fp32", "--texts", "-", input="\n".join(LABELS)).rows
    texts = {t["input"]: numpy.array(t["embedding"]) for t in texts}
    images = vectors(tandem, tiny, "--images", folder / "00.png", folder / "01.png")
    ratios = []
    for row in (ran.rows[0], ran.rows[2]):
        scores = {s["label"]: s for s in row["labels"]}
        assert set(scores) == set(LABELS)
        assert abs(sum(s["probability"] for s in row["labels"]) - 1) < 1e-5
        logits = [s["logit"] for s in row["labels"]]
        assert logits == sorted(logits, reverse=True)
        total = sum(math.exp(x - logits[0]) for x in logits)
        for score in row["labels"]:
            assert abs(score["probability"] - math.exp(score["logit"] - logits[0]) / total) < 1e-5
            ratios.append(score["logit"] / (images[row["input"]] @ texts[score["label"]]))
    assert max(ratios) - min(ratios) < 1e-2 * max(ratios), "the logits are no multiple of the cosines"


def test_templates_are_averaged(tandem, tiny, folder):
    def logits(*templates):
        args = [a for t in templates for a in ("--template", t)]
        row, = tandem("classify", "--model", tiny, "--precision", "fp32", "--labels", ",".join(LABELS), "--json", *args,
                      folder / "00.png").rows
        return {s["label"]: s["logit"] for s in row["labels"]}

    texts = [t.replace("{}", label) for label in LABELS for t in ("a {}", "one {} here")]
    rows = tandem("embed", "--model", tiny, "--precision", "fp32", "--texts", "-", input="\n".join(texts)).rows
    made = numpy.array([r["embedding"] for r in rows]).reshape(3, 2, -1).sum(1)
    made /= numpy.linalg.norm(made, axis=1, keepdims=True)
    image = vectors(tandem, tiny, "--images", folder / "00.png")[str(folder / "00.png")]
    got = logits("a {}", "one {} here")
    scale = got["cat"] / (made[2] @ image)
    for label, vector in zip(LABELS, made):
        assert abs(got[label] - scale * (vector @ image)) < 1e-3
    assert logits() == logits("a photo of a {}") != logits("{}")


def test_labels_from_a_file(tandem, tiny, folder, tmp_path):
    (tmp_path / "l.txt").write_bytes(b"red heart\r\ngreen apple\n\ncat")
    args = ("classify", "--model", tiny, "--json", folder / "00.png")
    assert tandem(*args, "--labels-file", tmp_path / "l.txt").out == tandem(*args, "--labels", " red heart ,green apple,cat").out
    row, = tandem(*args, "--labels", ",".join(LABELS), "--top", 2).rows
    assert len(row["labels"]) == 2
    (tmp_path / "l.txt").write_text("\n")
    assert tandem(*args, "--labels-file", tmp_path / "l.txt").code == 2
    assert tandem(*args, "--labels-file", tmp_path / "none.txt").code == 1
    ran = tandem(*args)
    assert ran.code == 2 and "--labels" in ran.err
    ran = tandem(*args, "--labels", "a", "--template", "no hole")
    assert ran.code != 0 and "{}" in ran.err


def test_classify_for_people(tandem, tiny, folder):
    ran = tandem("classify", "--model", tiny, "--labels", "a,b,c,d,e,f,g", folder / "00.png")
    lines = ran.out.splitlines()
    assert lines[0] == str(folder / "00.png") and len(lines) == 6 and all("%" in line for line in lines[1:])


def test_search_ranks_by_cosine(tandem, tiny, folder):
    ran = tandem("search", "--model", tiny, "--precision", "fp32", "--images", folder, "--top", 7, "--json", "a red heart")
    assert ran.code == 3
    hits, failed = ran.rows[:7], ran.rows[7:]
    query = tandem("embed", "--model", tiny, "--precision", "fp32", "--texts", "-", input="a red heart").rows[0]["embedding"]
    scores = {name: vector @ numpy.array(query) for name, vector in vectors(tandem, tiny, "--images", folder).items()}
    assert [h["rank"] for h in hits] == list(range(1, 8))
    for hit, score in zip(hits, sorted(scores.values(), reverse=True)):
        assert abs(hit["score"] - score) < 1e-5 and abs(scores[hit["input"]] - score) < 1e-5
    assert [set(f) for f in failed] == [{"input", "error"}] and failed[0]["input"].endswith("broken.png")


def test_search_by_picture_finds_the_picture(tandem, tiny, folder):
    ran = tandem("search", "--model", tiny, "--like", folder / "07.png", "--images", folder, "--top", 1, "--json")
    assert ran.rows[0]["input"] == str(folder / "07.png") and ran.rows[0]["score"] > 0.999
    assert tandem("search", "--model", tiny, "--like", folder / "broken.png", "--images", folder).code == 1


def test_search_where_nothing_can_be_found(tandem, tiny, tmp_path):
    ran = tandem("search", "--model", tiny, "--images", tmp_path / "none", "--json", "q")
    assert ran.code == 3 and len(ran.rows) == 1 and ran.rows[0]["error"]["code"] == "not_found"


FIELDS = {"model", "device", "device_name", "isa", "precision", "what", "batch", "mean_ms", "std_ms", "median_ms", "min_ms",
          "images_per_second", "texts_per_second", "peak_memory_bytes", "load_seconds", "tuning_file", "tuned_shapes",
          "heuristic_shapes"}


@pytest.mark.parametrize("what", ["image", "text", "both"])
def test_bench(tandem, tiny, what):
    ran = tandem("bench", "--model", tiny, "--what", what, "--batch", 3, "--runs", 4, "--warmup", 1, "--json")
    assert ran.code == 0, ran.err
    row, = ran.rows
    assert FIELDS <= set(row)
    assert row["what"] == what and row["batch"] == 3 and row["runs"] == 4
    assert 0 < row["min_ms"] <= row["median_ms"] and row["min_ms"] <= row["mean_ms"]
    for kind in ("image", "text"):
        rate = row[kind + "s_per_second"]
        assert rate is None if what not in (kind, "both") else abs(rate - 3000 / row["mean_ms"]) < 1e-6 * rate
    assert 1 << 20 < row["peak_memory_bytes"] < 1 << 32
    assert (row["tuning_file"], row["tuned_shapes"], row["heuristic_shapes"]) == (None, 0, 0), "a processor chooses nothing"


def test_bench_tunes_only_where_there_is_a_choice(tandem, tiny, tmp_path):
    ran = tandem("bench", "--model", tiny, "--device", "cpu", "--tune", tmp_path / "cpu.tuning", "--json")
    assert ran.code == 1 and "--device cuda" in ran.err and ran.rows[0]["error"]["code"] == "invalid_argument"
    assert not (tmp_path / "cpu.tuning").exists()
    ran = tandem("bench", "--model", tiny, "--tune", tmp_path / "none" / "a.tuning", "--json")
    assert ran.code == 1 and ran.rows[0]["error"]["code"] == "not_found", "before anything is measured"


def test_layers_are_kept_back_from_int8(tandem, tiny):
    args = ("bench", "--model", tiny, "--what", "both", "--runs", 1, "--device", "cpu", "--json")
    share = {}
    for keep in ((), ("--keep", "*.fc2"), ("--keep", "*.qkv,*.out", "--keep", "vision.*,text.*")):
        ran = tandem(*args, "--precision", "int8", *keep)
        assert ran.code == 0, ran.err
        assert ran.rows[0]["precision"] == "int8"
        share[keep] = ran.rows[0]["eight_bit_share"]
    whole, without_fc2, nothing = share.values()
    assert whole == 1 and 0.5 < without_fc2 < 0.9 and nothing == 0, "of a last block only pooled rows count"
    ran = tandem(*args, "--precision", "int8", "--keep", "vision.blocks.*.fc3")
    assert ran.code == 1 and ran.rows[0]["error"]["code"] == "invalid_argument" and "blocks.*.fc3" in ran.err
    ran = tandem(*args, "--precision", "fp32", "--keep", "*.fc2")
    assert ran.code == 1 and "int8 and fp8" in ran.err


def test_int8_is_close_to_fp32(tandem, folder):
    pictures = [folder / "00.png", folder / "01.png"]
    whole, eight = ([numpy.array(r["embedding"]) for r in tandem("embed", "--precision", p, "--images", *pictures).rows]
                    for p in ("fp32", "int8"))
    assert len(whole) == len(eight) == 2
    for a, b in zip(whole, eight):
        assert 0.985 < a @ b / numpy.linalg.norm(a) / numpy.linalg.norm(b) < 1


def test_bench_shows_the_stages_of_a_pass(tandem, tiny):
    args = ("bench", "--model", tiny, "--what", "both", "--batch", 2, "--runs", 3, "--stages")
    row, = tandem(*args, "--json").rows
    for tower, first, blocks in (("image", "patch embedding", 2), ("text", "token embedding", 2)):
        stages = {s["stage"]: s for s in row[tower]["stages"]}
        assert {first, "copy in", "layer norm", "q, k, v", "attention", "attention output", "fc1 and activation", "fc2",
                "row selection", "last layer norm and projection", "copy out"} == set(stages)
        assert stages[first]["operations"] == 1 and stages["attention"]["operations"] >= blocks
        assert stages["q, k, v"]["operations"] == blocks + 1, "the last block multiplies queries apart"
        assert abs(sum(s["share"] for s in stages.values()) - 1) < 1e-6
        assert abs(sum(s["ms"] for s in stages.values()) - row[tower]["total_ms"]) < 1e-6
    said = tandem(*args).out
    assert "attention output" in said and "together" in said and "\ntext " in said
    assert tandem(*args, "--tune", "x").code == 2
    ran = tandem(*args, "--output", "x.safetensors")
    assert ran.code == 2 and "--output" in ran.err, "vectors that were asked for are not left out in silence"


def test_bench_writes_inputs_that_give_the_same_vectors(tandem, tiny, tmp_path):
    lengths = tmp_path / "lengths"
    lengths.write_text("3\n9 5\n")
    args = ("bench", "--model", tiny, "--precision", "fp32", "--what", "both", "--warmup", 0, "--json")
    assert tandem(*args, "--batch", 2, "--runs", 3, "--text-lengths", lengths, "--output", tmp_path / "a.safetensors").code == 0
    a, _ = tensors.read(tmp_path / "a.safetensors")
    assert a["lengths"].tolist() == [3, 9, 5, 3, 9, 5] and a["pixels"].shape == (6, 28, 28, 3)
    assert len({p.tobytes() for p in a["pixels"]}) == 6, "the inputs are not distinct"
    assert len({p.tobytes() for p in a["image_embeds"]}) == 6
    assert numpy.allclose(numpy.linalg.norm(a["text_embeds"], axis=1), 1, atol=1e-5)
    tensors.write(tmp_path / "in.safetensors", {k: a[k] for k in ("pixels", "input_ids", "lengths")})
    # Six inputs in batches of four: every one is covered although two runs were asked for, and none is padded away.
    assert tandem(*args, "--batch", 4, "--runs", 1, "--input", tmp_path / "in.safetensors", "--output", tmp_path / "b.safetensors").code == 0
    b, _ = tensors.read(tmp_path / "b.safetensors")
    for name in ("image_embeds", "text_embeds"):
        assert numpy.abs(a[name] - b[name]).max() < 1e-6


def test_bench_runs_as_long_as_asked(tandem, tiny):
    row, = tandem("bench", "--model", tiny, "--what", "text", "--min-seconds", 0.3, "--runs", 1, "--json").rows
    assert row["runs"] * row["mean_ms"] >= 290


@pytest.mark.parametrize("arrays, words", [
    ({"other": numpy.zeros((1, 2), numpy.float32)}, "pixels"),
    ({"pixels": numpy.zeros((1, 3, 27, 28), numpy.uint8)}, "28"),
    ({"pixels": numpy.zeros((1, 3, 28, 28), numpy.float32)}, "uint8"),
])
def test_bench_refuses_inputs_that_do_not_fit(tandem, tiny, tmp_path, arrays, words):
    tensors.write(tmp_path / "in.safetensors", arrays)
    ran = tandem("bench", "--model", tiny, "--input", tmp_path / "in.safetensors", "--json")
    assert ran.code == 1 and words in ran.err and ran.rows[0]["error"]["code"] == "bad_data"


def test_bench_lengths_that_do_not_fit(tandem, tiny, tmp_path):
    (tmp_path / "l").write_text("5\n999\n")
    ran = tandem("bench", "--model", tiny, "--what", "text", "--text-lengths", tmp_path / "l")
    assert ran.code == 1 and "999" in ran.err
