"""The shipped folder through transformers.CLIPModel, on the labelled test set: what anyone else would measure.

    python make_testset.py TEST_DIR
    python check_shipped.py --test TEST_DIR [--model ../../models/emoji] [--output figures.json]
    python check_shipped.py --drawings DIR     another artist's drawings: files named by code points, 1F600.png

Prints zero-shot top-1 and top-5 by split over all names, for several phrasings, and the same with the weights rounded
to 16 bits as shipped but computed in float32 (that is what CPU engines do) against computing in bfloat16.
"""

import argparse
import json
import pathlib
import time

import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

PHRASINGS = ("{}", "a photo of a {}", "here you can see a {}")
MODEL = pathlib.Path(__file__).resolve().parents[2] / "models" / "emoji"


class Shipped:
    """Unit embeddings from the shipped folder; comparisons in float64, so that ties do not cost accuracy."""

    def __init__(self, folder, dtype=torch.float32):
        self.model = CLIPModel.from_pretrained(folder, dtype=dtype).eval()
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)
        self.processor = CLIPImageProcessor.from_pretrained(folder)
        self.dtype = dtype
        self.names = [
            entry["name"] for entry in json.loads((folder / "names.json").read_text(encoding="utf-8"))["emoji"]
        ]

    @torch.no_grad()
    def texts(self, texts):
        rows = []
        for start in range(0, len(texts), 512):
            ids = self.tokenizer(
                texts[start : start + 512], padding=True, truncation=True, max_length=32, return_tensors="pt"
            )
            output = self.model.text_model(**ids)
            rows.append(self.model.text_projection(output.pooler_output))
        return torch.nn.functional.normalize(torch.cat(rows).double(), dim=-1)

    @torch.no_grad()
    def images(self, pictures, batch=64):
        """pictures: an iterable of PIL images."""
        rows, part = [], []

        def flush():
            pixels = self.processor(images=part, return_tensors="pt")["pixel_values"].to(self.dtype)
            rows.append(self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output))
            part.clear()

        for picture in pictures:
            part.append(picture.convert("RGB"))
            if len(part) == batch:
                flush()
        if part:
            flush()
        return torch.nn.functional.normalize(torch.cat(rows).double(), dim=-1)


def accuracy(image, text, accepted):
    best = (image @ text.T).topk(5, 1).indices.tolist()
    top1 = sum(row[0] in right for row, right in zip(best, accepted)) / len(best)
    top5 = sum(any(index in right for index in row) for row, right in zip(best, accepted)) / len(best)
    return round(top1, 4), round(top5, 4)


def measure_test_set(shipped, folder):
    labels = [json.loads(line) for line in (folder / "labels.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = {
        phrasing: shipped.texts([phrasing.replace("{}", name) for name in shipped.names]) for phrasing in PHRASINGS
    }
    table = {}
    for split in dict.fromkeys(label["split"] for label in labels):
        chosen = [label for label in labels if label["split"] == split]
        image = shipped.images(Image.open(folder / label["file"]) for label in chosen)
        accepted = [set(label["accepted"]) for label in chosen]
        for phrasing, text in texts.items():
            figures = table[f"{split} | {phrasing}"] = accuracy(image, text, accepted)
            print(
                f"{split:10} {phrasing:24} top-1 {figures[0]:.4f}  top-5 {figures[1]:.4f}",
                flush=True,
            )
    return table


def measure_drawings(shipped, folder, about):
    """Drawings in files named by code points (variation selectors may be missing), on white."""
    plain = {entry["codes"].replace("-FE0F", "").lower(): index for index, entry in enumerate(about)}
    by_class = {}
    for index, entry in enumerate(about):
        by_class.setdefault(entry["class"], set()).add(index)
    pictures, accepted = [], []
    for path in sorted(folder.glob("*.png")):
        index = plain.get(path.stem.lower().replace("-fe0f", ""))
        if index is None:
            continue
        drawing = Image.open(path).convert("RGBA")
        page = Image.new("RGBA", (round(drawing.width * 1.1), round(drawing.height * 1.1)), "white")
        page.alpha_composite(drawing, (round(drawing.width * 0.05), round(drawing.height * 0.05)))
        pictures.append(page)
        accepted.append(by_class[about[index]["class"]])
    figures = accuracy(shipped.images(pictures), shipped.texts(shipped.names), accepted)
    print(f"another artist's drawings: {len(pictures)}, top-1 {figures[0]:.4f} top-5 {figures[1]:.4f}")
    return {"another artist's drawings": figures, "drawings": len(pictures)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, default=MODEL)
    parser.add_argument("--test", type=pathlib.Path, help="folder that make_testset.py wrote")
    parser.add_argument("--drawings", type=pathlib.Path, help="folder of PNG files named by code points")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--output", type=pathlib.Path)
    options = parser.parse_args()
    shipped = Shipped(options.model, getattr(torch, options.dtype))
    about = json.loads((options.model / "names.json").read_text(encoding="utf-8"))["emoji"]
    started, figures = time.time(), {}
    if options.test:
        figures |= measure_test_set(shipped, options.test)
    if options.drawings:
        figures |= measure_drawings(shipped, options.drawings, about)
    print(f"{time.time() - started:.0f} s")
    if options.output:
        options.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
