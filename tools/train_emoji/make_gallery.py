"""The gallery that the web page searches: models/emoji/gallery, drawn with a fixed seed from the emoji font (or the
shipped glyph sheet). One WebP picture a subject, named after it; a few show two subjects, left one first.

    python make_gallery.py ../../models/emoji/gallery
"""
import argparse
import pathlib

import numpy as np
from PIL import Image

from make_testset import load_tiles, scaled

SIDE = 200
SINGLES = """red heart|dog face|cat face|fox|panda|lion|tiger face|monkey|elephant|penguin|owl|frog|turtle|octopus|whale|
dolphin|shark|butterfly|honeybee|snail|spider|unicorn|horse|cow|pig face|rabbit face|mouse face|bear|koala|chicken|
red apple|green apple|banana|grapes|strawberry|watermelon|lemon|pineapple|cherries|avocado|carrot|hot pepper|bread|
cheese wedge|pizza|hamburger|french fries|sushi|cookie|birthday cake|ice cream|hot beverage|beer mug|wine glass|
rose|sunflower|tulip|cactus|evergreen tree|palm tree|four leaf clover|mushroom|sun|crescent moon|star|cloud with rain|
rainbow|snowflake|fire|water wave|volcano|snow-capped mountain|house|castle|tent|bridge at night|bicycle|automobile|bus|
locomotive|airplane|rocket|sailboat|ship|anchor|helicopter|umbrella|key|locked|light bulb|laptop|mobile phone|camera|
television|books|pencil|scissors|hammer|magnet|microscope|telescope|bomb|money bag|coin|gem stone|crown|trophy|
soccer ball|basketball|tennis|guitar|violin|drum|trumpet|headphone|artist palette|sleeping face|grinning face|
crying face|angry face|face with tears of joy|thinking face|ghost|robot|alien|clown face|jack-o-lantern|health worker|
firefighter|astronaut|cook|police officer|detective|ninja|santa claus|mermaid|thumbs up|clapping hands|victory hand|
eyes|brain|tooth|ear|footprints|hourglass done|alarm clock|calendar|globe showing europe-africa|compass""".replace("\n", "")
PAIRS = """cat face+pizza|dog face+red heart|rocket+full moon|monkey+banana|rabbit face+carrot|mouse face+cheese wedge|
umbrella+cloud with rain|penguin+snowflake|ghost+jack-o-lantern|bicycle+rainbow|astronaut+star|guitar+fire""".replace("\n", "")


def page(random):
    """A quiet gradient between two light colours."""
    first, second = (np.array([random.integers(150, 245) for _ in range(3)]) for _ in range(2))
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    part = (x * np.cos(turn := random.uniform(0, np.pi)) + y * np.sin(turn) + 1) / 2.5
    return Image.fromarray(np.clip(first + (second - first) * part[..., None], 0, 255).astype(np.uint8))


def draw(random, tiles):
    picture = page(random)
    for place, tile in enumerate(tiles):
        side = int(random.integers(120, 160) if len(tiles) == 1 else 88)
        glyph = scaled(tile, side, float(random.uniform(-8, 8)))
        room = SIDE - side if len(tiles) == 1 else SIDE // 2 - side
        left = int(random.uniform(.2, .8) * room) + place * SIDE // 2
        picture.paste(glyph, (left, int(random.uniform(.25, .75) * (SIDE - side))), glyph)
    return picture


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--source", choices=["auto", "font", "sheet"], default="auto")
    options = parser.parse_args()
    about, tiles = load_tiles(options.source)
    found = {entry["name"]: tile for entry, tile in zip(about["emoji"], tiles)}
    options.folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(20240229)
    written = 0
    for subjects in [[name] for name in SINGLES.split("|")] + [pair.split("+") for pair in PAIRS.split("|")]:
        unknown = [name for name in subjects if name not in found]
        if unknown:
            print("no emoji has this name:", ", ".join(unknown))
            continue
        name = " and ".join(subjects).replace(" ", "_")
        draw(random, [found[name] for name in subjects]).save(options.folder / f"{name}.webp", quality=80, method=6)
        written += 1
    print(f"{written} pictures in {options.folder}")


if __name__ == "__main__":
    main()
