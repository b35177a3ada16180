"""The drawings and the words: which emoji there are, what they are called, what they look like.

Names come from Unicode's CLDR (Debian: unicode-cldr-core) and, for what that version lacks, from emoji-test.txt
(Debian: unicode-data). Drawings come from the Noto Color Emoji font (Debian: fonts-noto-color-emoji), a bitmap font
that opens only at size 109, and, as a second hand to learn from, the line drawings of Symbola (Debian: fonts-symbola).

    python glyphs.py pack OUT_DIR     a training pack: sheet.webp (lossless, 128 px tiles) + glyphs.json
    python glyphs.py ship OUT_DIR     the small sheet that is shipped: glyphs.webp (72 px tiles) + names.json
"""

import argparse
import hashlib
import json
import pathlib
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

CLDR = pathlib.Path("/usr/share/unicode/cldr/common")
EMOJI_TEST = pathlib.Path("/usr/share/unicode/emoji/emoji-test.txt")
NOTO = pathlib.Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
SYMBOLA = pathlib.Path("/usr/share/fonts/truetype/ancient-scripts/Symbola_hint.ttf")

STRIKE = 136  # the font's bitmaps are 136 wide and 128 high; tiles are made square around them
TILE = 128  # side of a tile in the training pack
SHIP_TILE = 72  # side of a tile in the shipped sheet
SHEET_COLUMNS = 100
SKIN_TONES = {0x1F3FB, 0x1F3FC, 0x1F3FD, 0x1F3FE, 0x1F3FF}
VARIATION_SELECTOR = "\ufe0f"


# ---------------------------------------------------------------------------------------------------------- names


def read_emoji_test(path=EMOJI_TEST):
    """Fully qualified emoji in Unicode's order: list of (code points, name, group)."""
    found, group = [], ""
    line_format = re.compile(r"^([0-9A-F ]+?)\s*;\s*fully-qualified\s*# \S+ E[\d.]+ (.*)$")
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group:"):
            group = line.split(":", 1)[1].strip()
        elif match := line_format.match(line):
            found.append(([int(code, 16) for code in match[1].split()], match[2], group))
    return found


def read_annotations(cldr=CLDR):
    """English (names, keywords) by emoji text without variation selectors."""
    names, keywords = {}, {}
    for folder in ("annotations", "annotationsDerived"):
        for node in ElementTree.parse(cldr / folder / "en.xml").iter("annotation"):
            text = node.get("cp").replace(VARIATION_SELECTOR, "")
            if node.get("type") == "tts":
                names[text] = node.text
            else:
                keywords[text] = [word.strip() for word in node.text.split("|")]
    return names, keywords


def clean_name(name):
    """CLDR's "flag: X" reads "flag of X"; everything is lower case, as the tokenizer will make it anyway."""
    name = name.strip().lower().replace("\u201c", '"').replace("\u201d", '"').replace("\u2019", "'")
    return re.sub(r"^flag: ", "flag of ", name)


def load_entries(cldr=CLDR, emoji_test=EMOJI_TEST):
    """One dict an emoji without skin tones: text, codes, name, keywords (its own name left out), group, tones.

    `tones` lists the texts of the same emoji with one skin tone throughout: other drawings of the same name.
    """
    names, keywords = read_annotations(cldr)
    entries, by_base = [], {}
    toned = []
    for codes, test_name, group in read_emoji_test(emoji_test):
        text = "".join(map(chr, codes))
        tones = SKIN_TONES.intersection(codes)
        base = "".join(chr(code) for code in codes if code not in SKIN_TONES).replace(VARIATION_SELECTOR, "")
        if tones and len(base) < len(text.replace(VARIATION_SELECTOR, "")):
            if len(tones) == 1:
                toned.append((base, text))
            continue
        name = clean_name(names.get(base, test_name))
        words = [clean_name(word) for word in keywords.get(base, [])]
        entry = {
            "text": text,
            "codes": "-".join(f"{code:X}" for code in codes),
            "name": name,
            "group": group,
            "keywords": sorted({word for word in words if word != name and re.search(r"[a-z0-9]", word)}),
            "tones": [],
        }
        by_base[base] = entry
        entries.append(entry)
    for base, text in toned:
        if base in by_base:
            by_base[base]["tones"].append(text)
    return entries


# ------------------------------------------------------------------------------------------------------- drawings


def open_noto(path=NOTO):
    """The colour bitmap font; joined sequences and flags need Pillow's raqm layout."""
    if not features.check("raqm"):
        raise SystemExit(
            "Pillow has no raqm layout here: joined emoji and flags cannot be drawn; install a Pillow with raqm"
        )
    return ImageFont.truetype(str(path), 109, layout_engine=ImageFont.Layout.RAQM)


def draw_noto(font, text):
    """One emoji as a square RGBA picture of side STRIKE (straight alpha), or None if it is not one glyph."""
    box = font.getbbox(text)
    if box[2] - box[0] > STRIKE or box[2] <= box[0]:
        return None  # a sequence that the font does not join comes out side by side
    tile = Image.new("RGBA", (STRIKE, STRIKE))
    ImageDraw.Draw(tile).text(
        (-box[0] + (STRIKE - (box[2] - box[0])) // 2, -box[1] + (STRIKE - (box[3] - box[1])) // 2),
        text,
        font=font,
        embedded_color=True,
    )
    return tile if tile.getbbox() else None


def draw_symbola(font, text, missing):
    """A line drawing, black ink with its inside filled white, or None where the font has no such glyph."""
    base = text.replace(VARIATION_SELECTOR, "")
    if len(base) != 1:
        return None
    mask = font.getmask(base)
    if mask.size[0] == 0 or bytes(mask) == missing:
        return None
    ink = Image.frombytes("L", mask.size, bytes(mask))
    scale = 118 / max(ink.size)
    ink = ink.resize([max(1, round(side * scale)) for side in ink.size], Image.Resampling.LANCZOS)
    page = Image.new("L", (STRIKE, STRIKE))
    page.paste(ink, ((STRIKE - ink.width) // 2, (STRIKE - ink.height) // 2))
    outside = page.point(lambda value: 255 if value > 60 else 0)
    ImageDraw.floodfill(outside, (0, 0), 128)
    inside = np.asarray(outside) != 128
    alpha = np.maximum(np.asarray(page), np.where(inside, 255, 0)).astype(np.uint8)
    shade = np.where(inside, 255 - np.asarray(page), 0).astype(np.uint8)
    return Image.merge("RGBA", [Image.fromarray(shade)] * 3 + [Image.fromarray(alpha)])


def premultiplied(tile, side):
    """RGBA picture → uint8 array [side, side, 4] with colour multiplied by alpha, so that resampling is right."""
    pixels = np.asarray(tile).astype(np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    planes = [Image.fromarray(pixels[..., plane]).resize((side, side), Image.Resampling.LANCZOS) for plane in range(4)]
    pixels = np.clip(np.stack([np.asarray(plane) for plane in planes], -1) + 0.5, 0, 255).astype(np.uint8)
    pixels[..., :3] = np.minimum(pixels[..., :3], pixels[..., 3:])
    return pixels


def identity_classes(tiles):
    """Class of each drawing: the index of the first one with exactly the same pixels."""
    first, classes = {}, []
    for index, tile in enumerate(tiles):
        digest = hashlib.sha256(np.ascontiguousarray(tile).tobytes()).digest()
        classes.append(first.setdefault(digest, index))
    return classes


def draw_all(with_variants=True):
    """(entries, tiles, owner, kind): tiles uint8 [n, TILE, TILE, 4] premultiplied, the entries' own drawings first.

    owner[i] is the entry that tile i draws; kind[i] is "noto", "tone" or "symbola".
    """
    noto = open_noto()
    entries, tiles = [], []
    for entry in load_entries():
        tile = draw_noto(noto, entry["text"])
        if tile is None:
            print(f"left out, not one glyph in the font: {entry['codes']} {entry['name']}")
            continue
        entries.append(entry)
        tiles.append(premultiplied(tile, TILE))
    for entry, same in zip(entries, identity_classes(tiles)):
        entry["class"] = same
    owner, kind = list(range(len(entries))), ["noto"] * len(entries)
    if with_variants:
        symbola = ImageFont.truetype(str(SYMBOLA), 200) if SYMBOLA.exists() else None
        missing = bytes(symbola.getmask("\U000fffff")) if symbola else b""
        for index, entry in enumerate(entries):
            found = [("tone", draw_noto(noto, text)) for text in entry["tones"][1::2]]  # two of the five tones
            if symbola:
                found.append(("symbola", draw_symbola(symbola, entry["text"], missing)))
            for name, tile in found:
                if tile is not None:
                    tiles.append(premultiplied(tile, TILE))
                    owner.append(index)
                    kind.append(name)
    return entries, np.stack(tiles), owner, kind


# ----------------------------------------------------------------------------------------------------------- packs


def to_sheet(tiles, columns):
    """Tiles [n, s, s, c] → one picture [rows·s, columns·s, c], row by row."""
    count, side, _, planes = tiles.shape
    rows = -(-count // columns)
    padded = np.zeros((rows * columns, side, side, planes), tiles.dtype)
    padded[:count] = tiles
    return padded.reshape(rows, columns, side, side, planes).swapaxes(1, 2).reshape(rows * side, columns * side, planes)


def from_sheet(sheet, side, count):
    """The inverse of to_sheet."""
    rows, columns = sheet.shape[0] // side, sheet.shape[1] // side
    tiles = sheet.reshape(rows, side, columns, side, -1).swapaxes(1, 2).reshape(rows * columns, side, side, -1)
    return np.ascontiguousarray(tiles[:count])


def write_pack(folder):
    entries, tiles, owner, kind = draw_all()
    folder.mkdir(parents=True, exist_ok=True)
    # Alpha is stored as grey below the colour: one lossless RGB picture, so that no encoder "cleans" hidden pixels.
    sheet = to_sheet(tiles, SHEET_COLUMNS)
    Image.fromarray(np.ascontiguousarray(sheet[..., :3])).save(
        folder / "colour.webp", lossless=True, method=3, quality=40
    )
    Image.fromarray(np.ascontiguousarray(sheet[..., 3])).save(folder / "alpha.png", optimize=True)
    (folder / "glyphs.json").write_text(
        json.dumps({"tile": TILE, "entries": entries, "owner": owner, "kind": kind}, ensure_ascii=False)
    )
    print(
        f"{len(entries)} emoji, {len(tiles)} drawings: " + ", ".join(f"{k} {kind.count(k)}" for k in sorted(set(kind)))
    )


def read_pack(folder):
    """What write_pack wrote: (entries, tiles uint8 [n, TILE, TILE, 4] premultiplied, owner, kind)."""
    folder = pathlib.Path(folder)
    about = json.loads((folder / "glyphs.json").read_text())
    Image.MAX_IMAGE_PIXELS = None
    colour, alpha = (
        np.asarray(Image.open(folder / "colour.webp").convert("RGB")),
        np.asarray(Image.open(folder / "alpha.png")),
    )
    tiles = from_sheet(np.concatenate([colour, alpha[..., None]], -1), about["tile"], len(about["owner"]))
    return about["entries"], tiles, about["owner"], about["kind"]


def write_shipped(folder):
    entries, tiles, _, _ = draw_all(with_variants=False)
    folder.mkdir(parents=True, exist_ok=True)
    small = []
    for tile in tiles:
        planes = [
            Image.fromarray(tile[..., plane]).resize((SHIP_TILE, SHIP_TILE), Image.Resampling.LANCZOS)
            for plane in range(4)
        ]
        pixels = np.stack([np.asarray(plane) for plane in planes], -1).astype(np.float32)
        alpha = np.maximum(pixels[..., 3:], 1)
        pixels[..., :3] = np.minimum(pixels[..., :3] * 255 / alpha, 255)  # web pages and Pillow want straight alpha
        small.append(np.rint(pixels).astype(np.uint8))
    columns = 44
    Image.fromarray(to_sheet(np.stack(small), columns)).save(
        folder / "glyphs.webp", quality=82, method=6, alpha_quality=90
    )
    names = [
        {"emoji": e["text"], "codes": e["codes"], "name": e["name"], "keywords": e["keywords"], "class": e["class"]}
        for e in entries
    ]
    lines = ",\n".join(json.dumps(name, ensure_ascii=False) for name in names)
    (folder / "names.json").write_text(
        f'{{"sheet": "glyphs.webp", "tile": {SHIP_TILE}, "columns": {columns}, "emoji": [\n{lines}\n]}}\n',
        encoding="utf-8",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pack", "ship"])
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    (write_pack if options.what == "pack" else write_shipped)(options.folder)


if __name__ == "__main__":
    main()
