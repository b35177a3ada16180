"""The commands with the model that ships: it works without a flag, and says what it is."""
import json

import pytest
from PIL import Image

from conftest import ROOT

EMOJI = ROOT / "models/emoji"
DEMO = "demo model: emoji (knows emoji, not photographs)"


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """Names by file: emoji of the shipped sheet on white."""
    folder = tmp_path_factory.mktemp("drawings")
    about = json.loads((EMOJI / "names.json").read_text(encoding="utf-8"))
    sheet = Image.open(EMOJI / "glyphs.webp").convert("RGBA")
    tile, columns = about["tile"], about["columns"]
    wanted = {"grinning face", "taxi", "red heart", "red apple", "dog face", "snowman"}
    names = {}
    for i, entry in enumerate(about["emoji"]):
        if entry["name"] in wanted:
            left, top = i % columns * tile, i // columns * tile
            picture = Image.new("RGBA", (tile, tile), "white")
            picture.alpha_composite(sheet.crop((left, top, left + tile, top + tile)))
            path = folder / f"{i}.png"
            picture.convert("RGB").resize((200, 200)).save(path)
            names[str(path)] = entry["name"]
    assert set(names.values()) == wanted
    return names


def test_classify_knows_its_own_names(tandem, drawings):
    ran = tandem("classify", "--json", "--top", 1, *drawings)
    assert ran.code == 0, ran.err
    assert {r["input"]: r["labels"][0]["label"] for r in ran.rows} == drawings


def test_search_finds_what_is_named(tandem, drawings, tmp_path):
    folder = next(iter(drawings)).rsplit("/", 1)[0]
    for path, name in drawings.items():
        hit, = tandem("search", name, "--images", folder, "--top", 1, "--json").rows
        assert hit["input"] == path, name


def test_people_are_told_that_it_is_a_demo(tandem, drawings):
    path = next(iter(drawings))
    for command in (["embed", "--images", path], ["classify", path], ["search", "taxi", "--images", path]):
        ran = tandem(*command)
        assert ran.error_lines == ["tandem: " + DEMO + "; load a real checkpoint with --model PATH or a hub name"]
        assert tandem(*command, "--quiet").err == ""
        assert tandem(*command, "--json").err == ""


def test_other_models_are_not_called_a_demo(tandem, tiny, drawings):
    assert DEMO not in tandem("embed", "--model", tiny, "--images", next(iter(drawings))).err
    assert tandem("info", "--json").rows[0]["knows_photographs"] is False
    assert tandem("info", "--json", "--model", tiny).rows[0]["knows_photographs"] is True


def test_random_models_take_the_demos_words(tandem):
    row, = tandem("tokenize", "--model", "random:ViT-B-32", "--json", "a cat").rows
    assert row["ids"][0] == 49406 and row["ids"][-1] == 49407
    assert all(0 <= i < 49406 for i in row["ids"][1:-1])
