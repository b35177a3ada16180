"""tandem embed and preprocess: every input is answered, in order, in every format; bad ones alone fail."""
import json
import os
import signal
import subprocess
import time

import numpy
import pytest
import tensors
from PIL import Image


def picture(path, width=40, height=30, seed=0):
    rng = numpy.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), numpy.uint8)).save(path)
    return path


@pytest.fixture
def pictures(tmp_path):
    """Two good ones around one that is cut short."""
    one, broken, two = tmp_path / "one.png", tmp_path / "broken.png", tmp_path / "two.png"
    picture(one), picture(two, 33, 80, 1)
    broken.write_bytes(one.read_bytes()[:60])
    return [one, broken, two]


def embed(tandem, model, *args, code=0, **more):
    ran = tandem("embed", "--model", model, "--device", "cpu", "--precision", "fp32", *args, **more)
    assert ran.code == code, ran.err
    return ran


def test_images_then_texts(tandem, tiny, pictures, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"text": "line\\nbreak"}\n{"text": ""}\n')
    one, _, two = pictures
    rows = embed(tandem, tiny, "--texts", tmp_path / "t.jsonl", "--images", two, one).rows
    assert [(r["kind"], r["input"]) for r in rows] == [("image", str(two)), ("image", str(one)), ("text", "line\nbreak"), ("text", "")]
    for row in rows:
        assert set(row) == {"input", "kind", "embedding"} and len(row["embedding"]) == 24
        assert abs(numpy.linalg.norm(row["embedding"]) - 1) < 1e-5


def test_one_broken_of_three(tandem, tiny, pictures):
    ran = embed(tandem, tiny, "--images", *pictures, code=3)
    assert [r["input"] for r in ran.rows] == [str(p) for p in pictures]
    assert set(ran.rows[1]) == {"input", "kind", "error"} and ran.rows[1]["error"]["code"] == "bad_data"
    assert "embedding" in ran.rows[0] and "embedding" in ran.rows[2]
    assert "broken.png" in ran.err and "1 of 3" in ran.err
    alone = embed(tandem, tiny, "--images", pictures[2]).rows[0]["embedding"]
    assert numpy.abs(numpy.array(alone) - ran.rows[2]["embedding"]).max() < 1e-6


NO_PICTURES = {
    "empty": b"", "words": b"hello, this is no picture", "png-signature": b"\x89PNG\r\n\x1a\n",
    "jpeg-start": b"\xff\xd8\xff\xe0" + b"\0" * 200, "gif": b"GIF89a" + b"\xff" * 7, "bmp": b"BM" + b"\xff" * 100,
    "webp": b"RIFF\x10\0\0\0WEBPVP8 " + b"\0" * 30, "noise": numpy.random.default_rng(9).bytes(4096),
}


@pytest.mark.parametrize("name", NO_PICTURES)
def test_files_that_are_no_pictures(tandem, tiny, tmp_path, name):
    bad = tmp_path / "bad.png"
    bad.write_bytes(NO_PICTURES[name])
    good = picture(tmp_path / "good.png")
    rows = embed(tandem, tiny, "--images", bad, good, code=3).rows
    assert "error" in rows[0] and "embedding" in rows[1]
    assert rows[0]["error"]["code"] in ("bad_data", "unsupported", "too_large")
    assert "\n" not in rows[0]["error"]["message"]


def test_paths_that_cannot_be_read(tandem, tiny, tmp_path):
    good = picture(tmp_path / "good.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "empty").mkdir()
    paths = [tmp_path / "none.png", tmp_path / "pipe.png", tmp_path / "loop.png", tmp_path / "empty", tmp_path / "*.jpeg"]
    secret = picture(tmp_path / "secret.png")
    if os.geteuid() != 0:
        secret.chmod(0)
        paths.append(secret)
    rows = embed(tandem, tiny, "--images", *paths, good, code=3).rows
    assert [r["input"] for r in rows] == [str(p) for p in [*paths, good]]
    assert all("error" in r for r in rows[:-1]) and "embedding" in rows[-1]
    assert rows[0]["error"]["code"] == "not_found"


def test_nothing_but_a_missing_file(tandem, tiny, tmp_path):
    ran = embed(tandem, tiny, "--images", tmp_path / "none.png", code=3)
    assert 1 <= len(ran.error_lines) <= 3 and "none.png" in ran.err
    ran = embed(tandem, tiny, "--texts", tmp_path / "none.txt", code=3)
    assert ran.rows[0]["kind"] == "text" and ran.rows[0]["error"]["code"] == "not_found"


def test_three_broken_of_a_thousand(tandem, tiny, tmp_path):
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    bad = {17, 503, 999}
    for i in range(1000):
        path = folder / ("deep" if i % 2 else ".") / f"{i:04}.png"
        path.write_bytes(b"\x89PNG nonsense") if i in bad else picture(path, 8, 8, i)
    output = tmp_path / "v.npy"
    ran = embed(tandem, tiny, "--images", folder, "--output", output, code=3)
    assert ran.out == ""
    vectors = numpy.load(output)
    assert vectors.shape == (997, 24) and vectors.dtype == numpy.float32
    items = [json.loads(line) for line in open(f"{output}.items.jsonl")]
    assert [i["input"] for i in items] == sorted(str(p) for p in folder.rglob("*.png"))
    assert [i["row"] for i in items if "row" in i] == list(range(997))
    failed = [i for i in items if "error" in i]
    assert {int(i["input"][-8:-4]) for i in failed} == bad
    for item in failed:
        assert item["input"] in ran.err
    assert "3 of 1000" in ran.err
    # A row is its input's vector, wherever it stood.
    good = [i for i in items if "row" in i]
    some = [good[0], good[500], good[-1]]
    for item, row in zip(some, embed(tandem, tiny, "--images", *[i["input"] for i in some], code=0).rows):
        assert numpy.abs(vectors[item["row"]] - row["embedding"]).max() < 1e-6


def test_lists_on_standard_input(tandem, tiny, pictures):
    one, _, two = pictures
    rows = embed(tandem, tiny, "--images", "-", input=f"{one}\r\n\n{two}").rows
    assert [r["input"] for r in rows] == [str(one), str(two)]
    rows = embed(tandem, tiny, "--images", two, "-", one, input=f"{one}\n").rows
    assert [r["input"] for r in rows] == [str(two), str(one), str(one)]
    assert embed(tandem, tiny, "--texts", "-", input="a\nb\n").rows[1]["input"] == "b"


def test_odd_names(tandem, tiny, tmp_path):
    names = ["a b.png", "q[1].png", "*.png", "{x}.png", "--dash.png", "\u00e9\U0001F600.png", "new\nline.png"]
    for name in names:
        picture(tmp_path / name)
    rows = embed(tandem, tiny, "--images", *[tmp_path / n for n in names]).rows
    assert [r["input"] for r in rows] == [str(tmp_path / n) for n in names]
    rows = embed(tandem, tiny, "--images", tmp_path).rows
    assert [r["input"] for r in rows] == sorted(str(tmp_path / n) for n in names)
    (tmp_path / os.fsdecode(b"\xff.png")).write_bytes((tmp_path / "a b.png").read_bytes())
    assert len(embed(tandem, tiny, "--images", tmp_path).rows) == len(names) + 1


def test_all_formats_hold_the_same_vectors(tandem, tiny, pictures, tmp_path):
    rows = embed(tandem, tiny, "--images", *pictures, code=3).rows
    wanted = numpy.array([r["embedding"] for r in rows if "embedding" in r], numpy.float32)
    for name in ("e.jsonl", "e.npy", "e.safetensors"):
        embed(tandem, tiny, "--images", *pictures, "--output", tmp_path / name, code=3)
    lines = [json.loads(line) for line in open(tmp_path / "e.jsonl")]
    assert lines == rows
    assert numpy.array_equal(numpy.load(tmp_path / "e.npy"), wanted)
    arrays, metadata = tensors.read(tmp_path / "e.safetensors")
    assert numpy.array_equal(arrays["embeddings"], wanted)
    told = {"model", "model_hash", "precision", "device", "reference", "exif", "cleaning", "feature", "normalized",
            "tandem_version"}
    assert told <= set(metadata) and metadata["precision"] == "fp32" and metadata["exif"] == "apply"
    for name in ("e.npy", "e.safetensors"):
        items = [json.loads(line) for line in open(tmp_path / (name + ".items.jsonl"))]
        assert [i.get("row") for i in items] == [0, None, 1]
        assert items[1]["error"]["code"] == "bad_data"
        assert all(told <= set(i) for i in items)
    assert not list(tmp_path.glob("*partial*"))


def test_provenance_in_json_lines(tandem, tiny, pictures):
    row, = embed(tandem, tiny, "--images", pictures[0], "--provenance", "--exif", "ignore").rows
    assert row["exif"] == "ignore" and row["normalized"] is True and len(row["model_hash"]) >= 8


def test_fast_decoding_is_told(tandem, tiny, tmp_path):
    photo = tmp_path / "p.jpg"
    picture(photo, 640, 480)
    for flags, told in (((), "exact"), (("--fast-decode",), "dct-scaled")):
        row, = embed(tandem, tiny, "--images", photo, "--provenance", *flags).rows
        assert row["decode"] == told
        tandem("preprocess", "--model", tiny, "--output", tmp_path / f"{told}.safetensors", *flags, photo)
    exact, fast = (tensors.read(tmp_path / f"{told}.safetensors") for told in ("exact", "dct-scaled"))
    assert exact[1]["decode"] == "exact" and fast[1]["decode"] == "dct-scaled"
    assert not numpy.array_equal(exact[0][str(photo)], fast[0][str(photo)])


def test_features_and_lengths(tandem, tiny, pictures, tmp_path):
    (tmp_path / "t.txt").write_text("a cat\n")
    both = ("--images", pictures[0], "--texts", tmp_path / "t.txt")
    image, text = embed(tandem, tiny, *both, "--feature", "pooled").rows
    assert (len(image["embedding"]), len(text["embedding"])) == (36, 32)
    assert abs(numpy.linalg.norm(image["embedding"]) - 1) < 1e-5
    raw = embed(tandem, tiny, *both, "--no-normalize").rows
    for row, unit in zip(raw, embed(tandem, tiny, *both).rows):
        length = numpy.linalg.norm(row["embedding"])
        assert abs(length - 1) > 1e-3
        assert numpy.abs(numpy.array(row["embedding"]) / length - unit["embedding"]).max() < 1e-6
    ran = embed(tandem, tiny, *both, "--feature", "pooled", "--output", tmp_path / "x.npy", code=2)
    assert "36" in ran.err and "32" in ran.err and not (tmp_path / "x.npy").exists()


@pytest.mark.parametrize("name, code", [("no/x.npy", 1), ("folder.npy", 1), ("x.parquet", 2)])
def test_outputs_that_cannot_be(tandem, tiny, pictures, tmp_path, name, code):
    (tmp_path / "folder.npy").mkdir()
    ran = embed(tandem, tiny, "--images", pictures[0], "--output", tmp_path / name, code=code)
    assert 1 <= len(ran.error_lines) <= 3 and name.split("/")[-1] in ran.err


def test_the_same_run_gives_the_same_bytes(tandem, tiny, pictures, tmp_path):
    (tmp_path / "t.txt").write_text("a cat\n\u00e9\n")
    args = ("--images", pictures[0], "--texts", tmp_path / "t.txt")
    assert embed(tandem, tiny, *args).out == embed(tandem, tiny, *args).out


def test_quiet_and_log_level(tandem, tiny, pictures):
    assert "broken.png" not in embed(tandem, tiny, "--images", *pictures, "--quiet", code=3).err
    assert embed(tandem, tiny, "--images", *pictures, "--log-level", "off", code=3).err == ""
    assert "loaded" in embed(tandem, tiny, "--images", pictures[0], "--log-level", "info").err
    assert embed(tandem, tiny, "--images", pictures[0]).err == ""


def test_progress_is_for_terminals(tandem, tiny, pictures):
    def on_a_terminal(*flags):
        try:
            ours, theirs = os.openpty()
        except OSError as error:
            pytest.skip(f"this system gives out no terminals: {error}")
        process = subprocess.Popen([tandem.path, "embed", "--model", tiny, "--images", *pictures, *flags],
                                   stdout=subprocess.DEVNULL, stderr=theirs)
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 4096):
                said += part
        except OSError:  # how Linux says that the other end was closed
            pass
        os.close(ours)
        assert process.wait() == 3
        return said.decode()

    said = on_a_terminal()
    assert "3/3 items" in said and "1 failed" in said
    # The line is taken away before anything else is written.
    assert "\x1b[Ktandem: 1 of 3 items failed" in said
    assert "items," not in on_a_terminal("--quiet")


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_while_waiting_for_input(tandem, tiny, pictures, tmp_path, number, code):
    folder = tmp_path / "out"
    folder.mkdir()
    reader, writer = os.pipe()
    process = tandem.start("embed", "--model", tiny, "--images", "-", "--output", folder / "x.npy", stdin=reader)
    os.close(reader)
    os.write(writer, f"{pictures[0]}\n".encode())
    end = time.time() + 60
    while not list(folder.iterdir()):  # the job has begun: its files are there under other names
        assert process.poll() is None and time.time() < end
        time.sleep(0.01)
    assert not (folder / "x.npy").exists()
    process.send_signal(number)
    process.communicate(timeout=30)
    os.close(writer)
    assert process.returncode == code
    assert list(folder.iterdir()) == []


def test_an_output_is_replaced_only_by_a_whole_one(tandem, tiny, pictures, tmp_path):
    output = tmp_path / "x.npy"
    output.write_text("old")
    embed(tandem, tiny, "--images", pictures[0], "--output", output)
    assert numpy.load(output).shape == (1, 24)


def test_preprocess_gives_pillows_pixels(tandem, tiny, tmp_path):
    paths = [picture(tmp_path / f"{w}x{h}.png", w, h, w) for w, h in ((64, 48), (33, 80), (32, 32), (1, 9), (5, 4))]
    output = tmp_path / "p.safetensors"
    ran = tandem("preprocess", "--model", tiny, "--reference", "hf", "--exif", "ignore", "--size", 32, "--output", output,
                 "--json", *paths, tmp_path / "none.png", paths[0])
    assert ran.code == 3
    assert [r["input"] for r in ran.rows] == [str(p) for p in [*paths, tmp_path / "none.png", paths[0]]]
    assert all(r["shape"] == [3, 32, 32] for r in ran.rows if "shape" in r) and "error" in ran.rows[5]
    arrays, metadata = tensors.read(output)
    assert metadata["reference"] == "hf"
    assert set(arrays) == {str(p) for p in paths}
    for path in paths:
        image = Image.open(path)
        short = min(image.size)
        width, height = (int(32 * side / short) if side != short else 32 for side in image.size)
        resized = numpy.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
        top, left = (height - 32) // 2, (width - 32) // 2
        wanted = resized[top:top + 32, left:left + 32].transpose(2, 0, 1)
        assert numpy.array_equal(arrays[str(path)], wanted), path


def test_preprocess_keeps_the_formats_own_name_free(tandem, tiny, tmp_path):
    (tmp_path / "__metadata__").write_bytes(picture(tmp_path / "b.png").read_bytes())
    ran = tandem("preprocess", "--model", tiny, "--json", "--output", "p.safetensors", "__metadata__", "./__metadata__",
                 "b.png", cwd=tmp_path)
    assert ran.code == 3
    assert ["error" in row for row in ran.rows] == [True, False, False]
    assert "./__metadata__" in ran.rows[0]["error"]["message"]
    with open(tmp_path / "p.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert set(header) == {"__metadata__", "./__metadata__", "b.png"} and "reference" in header["__metadata__"]


def test_preprocess_feeds_bench_what_embed_sees(tandem, tiny, pictures, tmp_path):
    one, _, two = pictures
    tandem("preprocess", "--model", tiny, "--output", tmp_path / "p.safetensors", one, two)
    pixels, _ = tensors.read(tmp_path / "p.safetensors")
    (tmp_path / "t.txt").write_text("a cat\nan old dog\n")
    texts = tandem("tokenize", "--model", tiny, "--json", "--input", tmp_path / "t.txt").rows
    length = max(len(t["ids"]) for t in texts)
    end = texts[0]["ids"][-1]
    ids = numpy.array([t["ids"] + [end] * (length - len(t["ids"])) for t in texts], numpy.int64)
    first = numpy.stack([pixels[str(one)], pixels[str(two)]])
    rows = embed(tandem, tiny, "--images", one, two, "--texts", tmp_path / "t.txt").rows
    wanted = numpy.array([r["embedding"] for r in rows])
    for array in (first, first.transpose(0, 2, 3, 1)):
        tensors.write(tmp_path / "in.safetensors", {"pixels": array, "input_ids": ids})
        ran = tandem("bench", "--model", tiny, "--precision", "fp32", "--what", "both", "--input", tmp_path / "in.safetensors",
                     "--output", tmp_path / "out.safetensors", "--runs", 2, "--warmup", 0, "--json")
        assert ran.code == 0, ran.err
        vectors, _ = tensors.read(tmp_path / "out.safetensors")
        assert numpy.abs(vectors["image_embeds"] - wanted[:2]).max() < 1e-6
        assert numpy.abs(vectors["text_embeds"] - wanted[2:]).max() < 1e-6
