"""The shipped emoji model through the program: transformers' vectors, and names for the labelled sample."""

import hashlib
import json
import sys

import numpy as np
import pytest
from PIL import Image

from conftest import ROOT

EMOJI = ROOT / "models/emoji"
SAMPLE = EMOJI / "test_sample"
GOLDEN = json.loads((ROOT / "tests/golden/emoji_embeddings.json").read_text(encoding="utf-8"))

sys.path.insert(0, str(ROOT / "tools/train_emoji"))
import make_testset  # noqa: E402  (needs Pillow and numpy alone)


def labels_of(folder):
    return [json.loads(line) for line in (folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """All names, one a line: the labels that the model's figures are measured with."""
    about = json.loads((EMOJI / "names.json").read_text(encoding="utf-8"))
    path = tmp_path_factory.mktemp("emoji") / "names.txt"
    path.write_text("".join(entry["name"] + "\n" for entry in about["emoji"]), encoding="utf-8")
    return path


def right(tandem, names, folder, labels):
    """Labels whose picture gets a name that draws it, as the first of all names."""
    known = names.read_text(encoding="utf-8").splitlines()
    ran = tandem(
        "classify",
        "--json",
        "--top",
        1,
        "--labels-file",
        names,
        "--template",
        "{}",
        *[folder / label["file"] for label in labels],
    )
    assert ran.code == 0, ran.err
    return [
        label
        for label, row in zip(labels, ran.rows, strict=True)
        if row["labels"][0]["label"] in {known[index] for index in label["accepted"]}
    ]


def test_goldens_belong_to_the_shipped_weights():
    assert hashlib.sha256((EMOJI / "model.safetensors").read_bytes()).hexdigest() == GOLDEN["model_sha256"]


@pytest.mark.parametrize("feature", ["pooled", "projected"])
@pytest.mark.parametrize("reference", ["hf", "hf-fast"])
def test_pictures_get_transformers_vectors(tandem, reference, feature):
    files = [ROOT / image["file"] for image in GOLDEN["images"]]
    ran = tandem(
        "embed",
        "--json",
        "--reference",
        reference,
        "--feature",
        feature,
        "--no-normalize",
        "--precision",
        "fp32",
        "--images",
        *files,
    )
    assert ran.code == 0, ran.err
    for row, image in zip(ran.rows, GOLDEN["images"], strict=True):
        close(row["embedding"], image[reference][feature])


@pytest.mark.parametrize("feature", ["pooled", "projected"])
def test_texts_get_transformers_vectors(tandem, tmp_path, feature):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text["text"]}) + "\n" for text in GOLDEN["texts"]), encoding="utf-8")
    ran = tandem("embed", "--json", "--feature", feature, "--no-normalize", "--precision", "fp32", "--texts", path)
    assert ran.code == 0, ran.err
    for row, text in zip(ran.rows, GOLDEN["texts"], strict=True):
        close(row["embedding"], text[feature])


def close(found, expected):
    found, expected = np.float64(found), np.float64(expected)
    found, expected = (vector / np.linalg.norm(expected) for vector in (found, expected))
    assert np.abs(found - expected).max() <= 2e-5
    assert found @ expected / np.linalg.norm(found) >= 0.999999


def test_texts_get_transformers_ids(tandem, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text["text"]}) + "\n" for text in GOLDEN["texts"]), encoding="utf-8")
    ran = tandem("tokenize", "--json", "--input", path)
    assert [row["ids"] for row in ran.rows] == [text["ids"] for text in GOLDEN["texts"]]


def test_names_the_shipped_sample(tandem, names):
    labels = labels_of(SAMPLE)
    assert len(labels) == 44 and {label["split"] for label in labels} == set(make_testset.SPLITS)
    found = right(tandem, names, SAMPLE, labels)
    assert len(found) >= 43, [label for label in labels if label not in found]


def test_names_fresh_pictures_from_the_sheet(tandem, names, tmp_path):
    """Drawn now, from the glyph sheet, so that it needs no font; one seed, so that it is the same everywhere."""
    splits = ("easy", "medium", "grey", "white50")
    labels = make_testset.make(tmp_path, splits, per_split=40, seed=3, source="sheet", processes=1)
    assert len(right(tandem, names, tmp_path, labels)) >= 0.95 * len(labels)


def test_the_test_set_is_the_same_each_time(tmp_path):
    first, second = (make_testset.make(tmp_path / name, per_split=1, source="sheet", processes=1) for name in "ab")
    assert first == second
    for label in first:
        assert (tmp_path / "a" / label["file"]).read_bytes() == (tmp_path / "b" / label["file"]).read_bytes()
        assert min(Image.open(tmp_path / "a" / label["file"]).size) == make_testset.SIDE
    other = make_testset.make(tmp_path / "c", ("hard",), per_split=1, seed=4, source="sheet", processes=1)
    assert (tmp_path / "c" / other[0]["file"]).read_bytes() != (tmp_path / "a/hard/00000.jpg").read_bytes()
