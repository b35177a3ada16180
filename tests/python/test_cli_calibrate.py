"""tandem calibrate: the file that it writes, who takes it, and who refuses it."""
import io
import json
import os
import shutil
import tarfile

import pytest

from conftest import ROOT, TINY

NAME = "tandem-calibration.json"
SAMPLE = ROOT / "models/emoji/test_sample"
FEW = ("--samples", 12, "--sensitivity-samples", 4)


@pytest.fixture
def model(tmp_path):
    """A copy of the tiny model whose folder can be written."""
    return shutil.copytree(TINY / "hf_quickgelu", tmp_path / "model")


def calibrate(tandem, model, *args, **options):
    ran = tandem("calibrate", "--model", model, *FEW, *args, "--json", **options)
    assert ran.code == 0, ran.err
    return ran.rows[0]


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_the_file_stands_beside_the_model_and_is_the_same_every_time(tandem, model, precision):
    row = calibrate(tandem, model, "--precision", precision)
    assert row["file"] == str(model / NAME) and row["precision"] == precision
    assert row["images"]["items"] == 12 and 0.9 < row["images"]["min_cosine"] <= row["images"]["mean_cosine"] <= 1
    first = (model / NAME).read_bytes()
    written = json.loads(first)
    assert written["format"] == "tandem-calibration" and written["version"] == 1
    assert written["model_hash"] == row["model_hash"]
    layers = written["precisions"][precision]["layers"]
    assert set(layers) == {f"{tower}.blocks.{i}.{part}" for tower in ("vision", "text") for i in (0, 1)
                           for part in ("qkv", "out", "fc1", "fc2")}
    calibrate(tandem, model, "--precision", precision)
    assert (model / NAME).read_bytes() == first


def test_precisions_share_the_file(tandem, model):
    calibrate(tandem, model, "--precision", "int8")
    calibrate(tandem, model, "--precision", "fp8")
    assert sorted(json.loads((model / NAME).read_text())["precisions"]) == ["fp8", "int8"]


def embed(tandem, model, *args):
    return tandem("embed", "--model", model, "--images", SAMPLE, "--precision", "int8", "--json", *args)


def test_int8_takes_it_and_can_do_without(tandem, model):
    plain = embed(tandem, model).out
    calibrate(tandem, model, "--precision", "int8", "--nearest")
    path = model / NAME
    written = json.loads(path.read_text())
    # A step that cuts nearly everything, and nothing else: whoever takes it gives other vectors.
    layers = written["precisions"]["int8"]["layers"] = {"vision.blocks.0.fc2": {"input_scale": 1e-6}}
    path.write_text(json.dumps(written))
    with_it = embed(tandem, model)
    assert with_it.code == 0 and with_it.out != plain
    assert embed(tandem, model, "--calibration", "none").out == plain
    assert embed(tandem, model, "--calibration", path).out == with_it.out
    # Kept back, the layer has no scale, and is the precision below's.
    layers["vision.blocks.0.fc2"] = {"input_scale": 1e-6, "keep": True}
    path.write_text(json.dumps(written))
    kept = embed(tandem, model).out
    assert kept not in (plain, with_it.out)
    assert embed(tandem, model, "--keep", "auto").out == kept
    assert embed(tandem, model, "--keep", "none").out == with_it.out
    assert embed(tandem, model, "--calibration", "none", "--keep", "vision.blocks.0.fc2").out == kept


def test_the_rounded_weights_belong_to_it(tandem, model, tmp_path):
    row = calibrate(tandem, model, "--precision", "int8", "--data", SAMPLE)
    weights = model / "tandem-calibration.int8.safetensors"
    assert row["rounded"] and weights.is_file()
    with_it, bytes_ = embed(tandem, model).out, weights.read_bytes()
    assert with_it != embed(tandem, model, "--calibration", "none").out
    # The file of another calibration, bytes that changed, some that are missing, none at all.
    calibrate(tandem, model, "--precision", "int8", "--samples", 11, "--output", tmp_path / "other.json")
    for bad in [(tmp_path / "other.int8.safetensors").read_bytes(), bytes_[:-3] + b"\1\2\3", bytes_[:-1], b""]:
        weights.write_bytes(bad)
        refused = embed(tandem, model)
        assert refused.code == 1 and weights.name in refused.err and "calibrate" in refused.err
    weights.unlink()
    missing = embed(tandem, model)
    assert missing.code == 1 and weights.name in missing.err
    weights.write_bytes(bytes_)
    assert embed(tandem, model).out == with_it
    # The whole of it can be moved, and what is no longer wanted goes.
    shutil.move(weights, tmp_path / weights.name)
    shutil.move(model / NAME, tmp_path / NAME)
    assert embed(tandem, model, "--calibration", tmp_path / NAME).out == with_it
    shutil.move(tmp_path / NAME, model / NAME)
    shutil.move(tmp_path / weights.name, weights)
    assert calibrate(tandem, model, "--precision", "int8", "--data", SAMPLE, "--nearest")["rounded"] == []
    assert not weights.exists()


def test_verify_takes_it_and_can_do_without(tandem, model):
    args = ("verify", "--model", model, "--precision", "int8", "--data", SAMPLE, "--samples", 6, "--json")
    plain = tandem(*args).rows[0]["mean_cosine"]
    calibrate(tandem, model, "--precision", "int8", "--data", SAMPLE)
    assert tandem(*args).rows[0]["mean_cosine"] != plain
    assert tandem(*args, "--calibration", "none").rows[0]["mean_cosine"] == plain
    assert tandem(*args, "--calibration", model / NAME, "--keep", "*").rows[0]["mean_cosine"] > plain
    assert tandem(*args, "--keep", "none").code == tandem(*args, "--keep", "auto").code == 0


def test_a_folder_as_output_names_the_file_after_the_weights(tandem, model, tmp_path):
    row = calibrate(tandem, model, "--precision", "int8", "--output", tmp_path)
    assert row["file"] == str(tmp_path / (row["model_hash"] + ".json"))


def test_another_models_file_is_refused(tandem, model, tmp_path):
    calibrate(tandem, model, "--precision", "int8")
    other = shutil.copytree(TINY / "hf_gelu_head80", tmp_path / "other")
    shutil.copy(model / NAME, other / NAME)
    refused = embed(tandem, other)
    assert refused.code == 1 and "model_hash" in refused.err and "calibrate" in refused.err
    assert embed(tandem, other, "--calibration", "none").code == 0
    fp32 = tandem("embed", "--model", other, "--images", SAMPLE, "--json")
    assert fp32.code == 0  # other precisions do not look at it


def test_mistakes_are_named(tandem, model, tmp_path):
    nothing = embed(tandem, model, "--keep", "auto")
    assert nothing.code == 1 and "tandem calibrate" in nothing.err
    missing = embed(tandem, model, "--calibration", tmp_path / "missing.json")
    assert missing.code == 1 and "missing.json" in missing.err
    calibrate(tandem, model, "--precision", "fp8")
    other = embed(tandem, model, "--calibration", model / NAME)
    assert other.code == 1 and "int8" in other.err
    for args, word in [(("--precision", "bf16"), "int8 and fp8"), (("--keep", "auto"), "--keep"),
                       (("--migrate", "1.5"), "--migrate"), (("--output", tmp_path / "no" / "file.json"), "no")]:
        ran = tandem("calibrate", "--model", model, *FEW, *args)
        assert ran.code in (1, 2) and word in ran.err, (args, ran.err)
    (model / NAME).write_text("{")
    assert embed(tandem, model).code == 1


def test_a_folder_that_cannot_be_written_uses_the_cache(tandem, tmp_path):
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    row = calibrate(tandem, TINY / "hf_quickgelu", "--precision", "int8",
                    "--output", tmp_path / "named.json")
    assert row["file"] == str(tmp_path / "named.json") and not (TINY / "hf_quickgelu" / NAME).exists()
    if os.geteuid() != 0:  # root may write everywhere
        locked = shutil.copytree(TINY / "hf_quickgelu", tmp_path / "locked")
        os.chmod(locked, 0o555)
        row = calibrate(tandem, locked, "--precision", "int8", env=env)
        assert row["file"].startswith(env["XDG_CACHE_HOME"])
        assert tandem("embed", "--model", locked, "--images", SAMPLE, "--precision", "int8", "--keep", "auto", "--json",
                      env=env).code == 0


def test_pictures_of_a_tar_with_captions(tandem, model, tmp_path):
    tar = tmp_path / "shard.tar"
    pictures = sorted(p for p in SAMPLE.rglob("*") if p.suffix in (".png", ".jpg", ".webp"))[:6]
    with tarfile.open(tar, "w") as out:
        for i, picture in enumerate(pictures):
            out.add(picture, f"{i:04}{picture.suffix}")
            text = f"caption {i}".encode()
            info = tarfile.TarInfo(f"{i:04}.txt")
            info.size = len(text)
            out.addfile(info, io.BytesIO(text))
    row = calibrate(tandem, model, "--data", tar, "--precision", "int8")
    assert row["images"]["items"] == row["texts"]["items"] == len(pictures) == 6
    assert "shard.tar" in row["data"]
