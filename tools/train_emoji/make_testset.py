"""A labelled test set of emoji pictures from a fixed seed, drawn with Pillow and numpy alone.

    python make_testset.py OUT_DIR                    20,570 pictures in eleven splits of 1,870, on all cores
    python make_testset.py OUT_DIR --splits grey,hard --per-split 200 --seed 7

It shares no drawing code with the training renderer. Drawings come from the Noto Color Emoji font where it is
installed (`--source font`), otherwise from the sheet in the model's folder (`--source sheet`). Beside the pictures
it writes labels.jsonl, one line a picture: file, split, label (the name), index (line of names.txt), codes, and
accepted (indices of the names that draw exactly the same picture); names.txt holds the labels for `classify`.
"""

import argparse
import dataclasses
import io
import json
import math
import multiprocessing
import pathlib
import time

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, features

MODEL = pathlib.Path(__file__).resolve().parents[2] / "models" / "emoji"
NOTO = pathlib.Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
SIDE = 224  # pictures are larger than the model's 128, as real ones are
SPLITS = ("easy", "medium", "hard", "grey", "white95", "white50", "white20", "photo", "tilted", "dark", "png")
BACKGROUNDS = ("solid", "gradient", "noise", "split", "clutter")
_worker = {}


@dataclasses.dataclass(frozen=True)
class Look:
    """Of a split's pictures; ranges are drawn from, single values taken."""

    part: tuple  # the drawing's side as a part of the picture's
    angle: float  # degrees, either way
    background: object  # one of BACKGROUNDS, or the probability of each
    quality: object  # of the JPEG


MEDIUM = Look((0.35, 0.95), 10, (0.35, 0.2, 0.15, 0.15, 0.15), (50, 96))  # also grey, photo and png
LOOKS = {
    "easy": Look((0.6, 0.95), 0, "solid", 92),
    "tilted": Look((0.5, 0.9), 20, "gradient", 90),
    "hard": Look((0.18, 0.5), 18, (0.1, 0.15, 0.25, 0.2, 0.3), (25, 81)),
}


def font_tiles(emoji):
    """Straight-alpha RGBA drawings of side 136 from the font's bitmaps (size 109 is its only one)."""
    font = ImageFont.truetype(str(NOTO), 109, layout_engine=ImageFont.Layout.RAQM)
    tiles = []
    for entry in emoji:
        tile = Image.new("RGBA", (136, 136))
        left, top, right, bottom = font.getbbox(entry["emoji"])
        ImageDraw.Draw(tile).text(
            ((136 - right - left) / 2, (136 - bottom - top) / 2), entry["emoji"], font=font, embedded_color=True
        )
        tiles.append(tile)
    return tiles


def sheet_tiles(about, folder):
    sheet, side, columns = Image.open(folder / about["sheet"]).convert("RGBA"), about["tile"], about["columns"]
    return [
        sheet.crop((column * side, row * side, (column + 1) * side, (row + 1) * side))
        for row, column in (divmod(index, columns) for index in range(len(about["emoji"])))
    ]


def load_tiles(source, folder=MODEL):
    about = json.loads((folder / "names.json").read_text(encoding="utf-8"))
    if source == "auto":
        source = "font" if NOTO.exists() and features.check("raqm") else "sheet"
    return about, font_tiles(about["emoji"]) if source == "font" else sheet_tiles(about, folder)


def scaled(tile, side, angle=0.0):
    """The drawing at another size, turned; resampled with premultiplied alpha (Pillow's RGBa)."""
    tile = tile.convert("RGBa")
    if angle:
        tile = tile.resize((272, 272), Image.Resampling.BICUBIC).convert("RGBA")
        tile = tile.rotate(angle, Image.Resampling.BICUBIC).convert("RGBa")
    return tile.resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")


def background(random, kind, tiles):
    """A picture of side SIDE: one colour, a gradient, cloudy noise, two halves, or pieces of other drawings."""
    colours = random.integers(0, 256, (2, 3))
    if kind == "solid":
        return Image.new("RGB", (SIDE, SIDE), tuple(map(int, colours[0])))
    if kind == "noise":
        cells = int(random.choice([2, 4, 8]))
        return Image.fromarray(random.integers(0, 256, (cells, cells, 3), np.uint8)).resize(
            (SIDE, SIDE), Image.Resampling.BICUBIC
        )
    if kind == "clutter":
        page = Image.new("RGB", (SIDE, SIDE), tuple(map(int, colours[0])))
        for _ in range(2):
            side = int(random.integers(330, 900))
            piece = scaled(tiles[random.integers(len(tiles))], side, float(random.uniform(-180, 180)))
            page.paste(piece, tuple(int(value) for value in random.integers(-side + 80, SIDE - 80, 2)), piece)
        return Image.blend(
            page, Image.new("RGB", (SIDE, SIDE), tuple(map(int, colours[1]))), float(random.uniform(0.15, 0.55))
        )
    angle = random.uniform(0, 2 * math.pi)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    ramp = x * math.cos(angle) + y * math.sin(angle)
    part = np.clip(ramp + 0.5, 0, 1) if kind == "gradient" else (ramp > random.uniform(-0.3, 0.3)).astype(float)
    return Image.fromarray((colours[0] + (colours[1] - colours[0]) * part[..., None]).astype(np.uint8))


def worn(random, picture, strength):
    """Blur, contrast, brightness and grain, each of them now and then."""
    if random.random() < 0.3 * strength:
        picture = picture.filter(ImageFilter.GaussianBlur(float(random.uniform(0.5, 2.0))))
    if random.random() < 0.4 * strength:
        picture = ImageEnhance.Contrast(picture).enhance(float(random.uniform(0.65, 1.25)))
    if random.random() < 0.4 * strength:
        picture = ImageEnhance.Brightness(picture).enhance(float(random.uniform(0.75, 1.2)))
    if random.random() < 0.25 * strength:
        grain = random.normal(0, random.uniform(4, 22), (SIDE, SIDE, 3))
        picture = Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))
    return picture


def compose(random, split, tile, tiles):
    """One picture of a split and the JPEG quality to save it with (None: PNG)."""
    white = (255, 255, 255)
    if split.startswith("white"):
        part, angle, place, page, quality = int(split[5:]) / 100, 0.0, 0.0, Image.new("RGB", (SIDE, SIDE), white), 90
    elif split == "dark":
        page = Image.new("RGB", (SIDE, SIDE), tuple(map(int, random.integers(0, 60, 3))))
        part, angle, place, quality = random.uniform(0.4, 0.95), 0.0, 1.0, 90
    else:
        look = LOOKS.get(split, MEDIUM)
        kind = look.background if isinstance(look.background, str) else random.choice(BACKGROUNDS, p=look.background)
        part, angle, place = random.uniform(*look.part), look.angle and random.uniform(-look.angle, look.angle), 1.0
        page = background(random, kind, tiles)
        quality = look.quality if isinstance(look.quality, int) else int(random.integers(*look.quality))
    side = max(8, round(part * SIDE))
    drawing = scaled(tile, side, float(angle))
    room = (SIDE - side) / 2
    corner = tuple(int(round(room + place * room * random.uniform(-1, 1))) for _ in range(2))
    page.paste(drawing, corner, drawing)
    if split in ("medium", "grey", "photo"):
        page = worn(random, page, 1.0)
    elif split == "hard":
        page = worn(random, page, 1.8)
    if split == "grey":
        page = page.convert("L")
    if split == "photo":  # a wide or tall picture: the crop must find the glyph in the middle
        wide = Image.new(
            "RGB",
            (SIDE + 96, SIDE) if random.random() < 0.5 else (SIDE, SIDE + 96),
            tuple(map(int, random.integers(0, 256, 3))),
        )
        wide.paste(page, ((wide.width - SIDE) // 2, (wide.height - SIDE) // 2))
        page = wide
    return page, None if split == "png" else quality


def encoded(page, quality):
    stream = io.BytesIO()
    if quality is None:
        page.save(stream, "PNG", compress_level=1)
    else:
        page.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def _prepare(source, model, folder, seed, per_split):
    _worker["about"], _worker["tiles"] = load_tiles(source, model)
    _worker["folder"], _worker["seed"], _worker["per_split"] = folder, seed, per_split


def _draw(job):
    split, number, index = job
    random = np.random.default_rng([_worker["seed"], SPLITS.index(split), number])
    data = encoded(*compose(random, split, _worker["tiles"][index], _worker["tiles"]))
    file = f"{split}/{number:05d}.{'png' if split == 'png' else 'jpg'}"
    (_worker["folder"] / file).write_bytes(data)
    entry = _worker["about"]["emoji"][index]
    return {"file": file, "split": split, "label": entry["name"], "index": index, "codes": entry["codes"]}


def make(folder, splits=SPLITS, per_split=None, seed=20240229, source="auto", model=MODEL, processes=None):
    """Writes the test set; returns its labels. The same arguments and source give the same files."""
    folder = pathlib.Path(folder)
    emoji = json.loads((model / "names.json").read_text(encoding="utf-8"))["emoji"]
    same = {}
    for index, entry in enumerate(emoji):
        same.setdefault(entry["class"], []).append(index)
    jobs = []
    for split in splits:
        (folder / split).mkdir(parents=True, exist_ok=True)
        count = per_split or len(emoji)
        order = np.random.default_rng([seed, SPLITS.index(split)]).permutation(len(emoji))
        jobs += [(split, number, int(order[number % len(emoji)])) for number in range(count)]
    with multiprocessing.get_context("fork").Pool(
        processes, _prepare, (source, model, folder, seed, per_split)
    ) as pool:
        labels = pool.map(_draw, jobs, chunksize=64)
    for label in labels:
        label["accepted"] = same[emoji[label["index"]]["class"]]
    (folder / "labels.jsonl").write_text(
        "".join(json.dumps(label, ensure_ascii=False) + "\n" for label in labels), encoding="utf-8"
    )
    (folder / "names.txt").write_text("".join(entry["name"] + "\n" for entry in emoji), encoding="utf-8")
    return labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--splits", default=",".join(SPLITS), help="comma-separated; default: all")
    parser.add_argument("--per-split", type=int, help="pictures a split; default: one of every emoji")
    parser.add_argument("--seed", type=int, default=20240229)
    parser.add_argument("--source", choices=["auto", "font", "sheet"], default="auto")
    parser.add_argument("--model", type=pathlib.Path, default=MODEL, help="folder with names.json and the sheet")
    parser.add_argument("--processes", type=int)
    options = parser.parse_args()
    splits = options.splits.split(",")
    if unknown := [split for split in splits if split not in SPLITS]:
        parser.error(f"unknown split {unknown[0]!r}; there are {', '.join(SPLITS)}")
    started = time.time()
    labels = make(
        options.folder, splits, options.per_split, options.seed, options.source, options.model, options.processes
    )
    print(f"{len(labels)} pictures in {time.time() - started:.0f} s: {options.folder}")


if __name__ == "__main__":
    main()
