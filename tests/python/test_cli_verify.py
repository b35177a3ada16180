"""tandem verify: the shape of its lines, its gates, and the layer that somebody changed."""
import json
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT, TINY

FIELDS = ["what", "items", "mean_cosine", "min_cosine", "p01_cosine", "rank_agreement", "top1", "top1_reference"]
SAMPLE = ROOT / "models/emoji/test_sample"


def bf16(tandem):
    if "bf16" not in tandem("info", "--json").rows[0]["isa"]:
        pytest.skip("this processor has no bf16")


def changed(source, to, name, change):
    """A copy of a model's folder with one float32 tensor changed in place."""
    shutil.copytree(source, to)
    path = to / "model.safetensors"
    data = bytearray(path.read_bytes())
    length = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8 : 8 + length])[name]
    assert entry["dtype"] == "F32"
    first, last = (8 + length + offset for offset in entry["data_offsets"])
    values = np.frombuffer(bytes(data[first:last]), np.float32).reshape(entry["shape"]).copy()
    change(values)
    data[first:last] = values.tobytes()
    path.write_bytes(data)
    return to


def test_a_line_for_each_kind_with_the_fields_of_the_contract(tandem, tiny):
    ran = tandem("verify", "--model", tiny, "--samples", 12, "--json")
    assert ran.code == 0, ran.err
    assert [row["what"] for row in ran.rows] == ["image", "text"]
    for row in ran.rows:
        assert list(row)[: len(FIELDS)] == FIELDS
        assert row["min_cosine"] >= 1 - 1e-9 and row["max_difference"] == 0 and row["rank_agreement"] == 1
        assert row["top1"] is None and row["failed"] == 0
        assert row["against"]["precision"] == row["precision"] == "fp32"
    assert ran.rows[0]["items"] == 12


def test_another_backend_is_another_way_to_compute(tandem, tiny):
    ran = tandem("verify", "--model", tiny, "--device", "cpu", "--against-device", "reference", "--samples", 6, "--layers",
                 "--max-difference", "2e-5", "--min-cosine", "0.999999", "--json")
    assert ran.code == 0, ran.out + ran.err
    assert ran.rows[0]["device"] == "cpu" and ran.rows[0]["against"]["device"] == "reference"
    layers = {row["layer"]: row for row in ran.rows if row["what"] == "layer"}
    assert set(layers) >= {f"{tower}.blocks.{i}.{part}" for tower in ("vision", "text") for i in (0, 1)
                           for part in ("qkv", "out", "fc1", "fc2")}
    assert {row["layer"] for row in ran.rows if row["what"] == "block"} >= {"vision.blocks.0", "text.blocks.1"}
    assert 0 < max(row["relative_error"] for row in layers.values()) < 1e-5  # another order of sums, no other result
    assert not any(row["suspect"] for row in layers.values())


def test_sixteen_bits_are_near_and_the_gate_says_so(tandem, tiny):
    bf16(tandem)
    near = tandem("verify", "--model", tiny, "--precision", "bf16", "--samples", 16, "--max-difference", "0.05", "--json")
    assert near.code == 0, near.out
    assert 0.999 < near.rows[0]["min_cosine"] <= near.rows[0]["p01_cosine"] <= near.rows[0]["mean_cosine"] < 1
    gated = tandem("verify", "--model", tiny, "--precision", "bf16", "--samples", 16, "--max-difference", "1e-5", "--json")
    assert gated.code == 1
    assert "--max-difference" in gated.rows[-1]["error"]["message"] and len(gated.error_lines) == 1
    assert gated.rows[0]["what"] == "image"  # the figures are there all the same
    assert tandem("verify", "--model", tiny, "--precision", "bf16", "--min-cosine", "0.9999999").code == 1


CHANGES = {
    "a matrix": ("vision_model.encoder.layers.1.mlp.fc2.weight", "vision.blocks.1.fc2", lambda v: v.__imul__(1.5)),
    "one channel": ("text_model.encoder.layers.0.self_attn.out_proj.weight", "text.blocks.0.out",
                    lambda v: v[3].__imul__(3)),
    "a norm": ("vision_model.encoder.layers.0.layer_norm2.weight", "vision.blocks.0.fc1", lambda v: v.__imul__(0.7)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_layer_that_was_changed_is_named(tandem, tiny, tmp_path, what):
    tensor, layer, change = CHANGES[what]
    model = changed(tiny, tmp_path / "model", tensor, change)
    ran = tandem("verify", "--model", model, "--against-model", tiny, "--layers", "--json")
    assert ran.code == 1
    assert [row["layer"] for row in ran.rows if row.get("suspect")] == [layer]
    assert layer in ran.err
    # Unasked too, once a gate has found that something is wrong.
    ran = tandem("verify", "--model", model, "--against-model", tiny, "--max-difference", "1e-3")
    assert ran.code == 1 and layer in ran.err
    assert tandem("verify", "--model", model, "--against-model", model, "--layers").code == 0


def test_zero_shot_of_the_emoji_sample(tandem, tmp_path):
    names = [entry["name"] for entry in json.loads((ROOT / "models/emoji/names.json").read_text())["emoji"]]
    data = tmp_path / "data"
    shutil.copytree(SAMPLE, data)
    (data / "names.txt").write_text("".join(name + "\n" for name in names))
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(name + "\n" for name in names))
    ran = tandem("verify", "--data", data, "--labels-file", labels, "--json")
    assert ran.code == 0, ran.err
    image, text = ran.rows
    pictures = len((data / "labels.jsonl").read_text().splitlines())
    assert image["items"] == image["labelled"] == pictures and image["labels"] == text["items"] == len(names)
    # The same pictures through classify, which has its own arithmetic around the vectors.
    rows = [json.loads(line) for line in (data / "labels.jsonl").read_text().splitlines()]
    ran = tandem("classify", "--json", "--top", 5, "--labels-file", labels, "--template", "{}",
                 *[data / row["file"] for row in rows])
    found = [[entry["label"] for entry in row["labels"]] for row in ran.rows]
    accepted = [{names[i] for i in row["accepted"]} for row in rows]
    assert image["top1"] == image["top1_reference"] == pytest.approx(np.mean([f[0] in a for f, a in zip(found, accepted)]))
    assert image["top5"] == pytest.approx(np.mean([bool(a & set(f)) for f, a in zip(found, accepted)]))
    assert image["top1"] > 0.9


def test_folders_are_classes(tandem, tmp_path):
    for name, colour in (("red_heart", (220, 20, 40)), ("snow", (255, 255, 255))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 30), colour).save(tmp_path / name / "1.png")
    ran = tandem("verify", "--data", tmp_path, "--json")
    assert ran.code == 0, ran.err
    assert ran.rows[0]["labelled"] == 2 and ran.rows[1]["items"] == 2
    assert ran.rows[0]["top1"] in (0, 0.5, 1) and ran.rows[0]["top5"] == 1


def test_the_drawn_emoji_are_known(tandem):
    ran = tandem("verify", "--data", "emoji", "--samples", 40, "--json")
    assert ran.code == 0, ran.err
    assert ran.rows[0]["items"] == ran.rows[0]["labelled"] == 40 and ran.rows[0]["top1"] > 0.85
    assert ran.rows[0]["queries"] == 256


def test_broken_pictures_are_named_and_left_out(tandem, tiny, tmp_path):
    for i in range(3):
        Image.new("RGB", (30, 30), (i, 2, 3)).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"no picture")
    texts = tmp_path / "t.txt"
    texts.write_text("one\ntwo\n")
    ran = tandem("verify", "--model", tiny, "--data", tmp_path, "--texts", texts, "--json")
    assert ran.code == 3
    assert ran.rows[0]["items"] == 2 and ran.rows[0]["failed"] == 1 and ran.rows[1]["items"] == 2
    assert "1.png" in ran.err


@pytest.mark.parametrize("flags, code, said", [
    (["--against", "fp7"], 2, "fp7"),
    (["--against-device", "tpu"], 2, "tpu"),
    (["--data", "/nowhere"], 1, "/nowhere"),
    (["--against-model", "emoji"], 1, "cannot be compared"),
    (["--template", "a picture"], 2, "{}"),
    (["--max-difference", "-1"], 2, "out of range"),
    (["--labels", "a", "--labels-file", "b"], 2, "not both"),
])
def test_mistakes(tandem, tiny, flags, code, said):
    ran = tandem("verify", "--model", tiny, *flags)
    assert ran.code == code and said in ran.err and len(ran.error_lines) <= 2
