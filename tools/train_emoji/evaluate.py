"""How good is it: zero-shot naming, phrasings, keywords, relations and retrieval on fresh renderings.

    python evaluate.py --pack PACK_DIR --weights RUN_DIR/result.pt --output figures.json

Pictures come from the training renderer with seeds that training never uses; check_shipped.py measures the exported
model through transformers on pictures from another renderer.
"""

import argparse
import json
import pathlib

import torch

import captions as caption_writing
import glyphs
import model as towers
import phrases
import render
import scenes as scene_types
import vocabulary

EVALUATION_SEED = 77_000_000_000  # training seeds stay far below


def held_out_frames():
    """Frames that training never shows, with {} for the name: every opener, with and without a suffix."""
    openers, suffixes = phrases.split(phrases.HELD_OUT_OPENERS), phrases.split(phrases.HELD_OUT_SUFFIXES)
    frames = []
    for index, opener in enumerate(openers):
        frames.append(f"{opener} a {{}}")
        frames.append(f"{opener} the {{}} {suffixes[index % len(suffixes)]}" if index % 3 == 0 else f"{opener} {{}}")
    return frames + [f"a {{}} {suffix}" for suffix in suffixes]


class Checker:
    """Measures a model that has encode_image(pixels) and encode_text(ids)."""

    def __init__(self, entries, tokenizer, sampler, renderer, writer, device):
        self.entries, self.tokenizer, self.device = entries, tokenizer, device
        self.sampler, self.renderer, self.writer = sampler, renderer, writer
        self.names = [entry["name"] for entry in entries]
        self.classes = torch.tensor([entry["class"] for entry in entries], device=device)

    def generator(self, number):
        return torch.Generator(self.device).manual_seed(EVALUATION_SEED + number)

    @torch.no_grad()
    def texts(self, model, texts):
        ids = torch.tensor(
            [self.tokenizer.encode_for_model(text, caption_writing.CONTEXT) for text in texts], device=self.device
        )
        return torch.cat([model.encode_text(part) for part in ids.split(4096)])

    @torch.no_grad()
    def pictures(self, model, recipe, number, copies=1, limit=None):
        """One rendering a glyph and copy: (unit rows, glyph of each row)."""
        glyph = torch.arange(len(self.entries), device=self.device)[:limit].repeat(copies)
        rows = []
        generator = self.generator(number)
        for part in glyph.split(2048):
            scenes = self.sampler.sample(
                len(part) + len(part) % 2, recipe, generator, torch.cat([part, part[: len(part) % 2]])
            )
            rows.append(model.encode_image(self.renderer.render(scenes, recipe, generator).float())[: len(part)])
        return torch.cat(rows), glyph

    def top(self, image, glyph, names, k=1):
        """Part of the pictures whose class is among the k best names."""
        best = (image.double() @ names.double().T).topk(k, 1).indices
        return float((self.classes[best] == self.classes[glyph][:, None]).any(1).float().mean())

    def quick(self, model, limit=None):
        plain = self.texts(model, self.names)
        figures = {}
        for number, (name, recipe) in enumerate(
            {"medium": scene_types.MEDIUM, "hard": scene_types.HARD, "grey": scene_types.GREY_MEDIUM}.items()
        ):
            image, glyph = self.pictures(model, recipe, number, limit=limit)
            figures[name] = round(self.top(image, glyph, plain), 4)
            if name == "medium":
                held_out = self.texts(model, [f"here you can see a {text}" for text in self.names])
                figures["held_out"] = round(self.top(image, glyph, held_out), 4)
        return figures

    def full(self, model, copies=4):
        plain = self.texts(model, self.names)
        figures = {}
        sets = {}
        for number, (name, recipe) in enumerate(
            {
                "easy": scene_types.EASY,
                "medium": scene_types.MEDIUM,
                "hard": scene_types.HARD,
                "grey": scene_types.GREY_MEDIUM,
            }.items(),
            10,
        ):
            sets[name] = image, glyph = self.pictures(model, recipe, number, copies)
            figures[f"{name}, plain name"] = self.top(image, glyph, plain)
            figures[f"{name}, plain name, top-5"] = self.top(image, glyph, plain, 5)
        medium = sets["medium"]
        for frame in ("here you can see a {}", "a photo of a {}"):
            figures[f'medium, "{frame}"'] = self.top(
                *medium, self.texts(model, [frame.replace("{}", name) for name in self.names])
            )
        scores = []
        for frame in held_out_frames():
            scores.append(
                (self.top(*medium, self.texts(model, [frame.replace("{}", name) for name in self.names])), frame)
            )
        figures["medium, held-out frames, mean"] = sum(score for score, _ in scores) / len(scores)
        figures["medium, held-out frames, worst"], figures["worst frame"] = min(scores)
        figures["held-out frames"] = len(scores)
        figures |= self.keywords(model) | self.relations(model) | self.retrieval(model)
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}

    def keywords(self, model):
        """Keyword → the clean picture of a glyph that has the keyword or is called so."""
        image, _ = self.pictures(model, scene_types.EASY, 30)
        concepts = self.writer.concepts
        listed = sorted({concept for row in concepts.listed for concept in row})
        right = torch.zeros(len(concepts.texts), len(self.entries), dtype=torch.bool)
        for glyph, row in enumerate(concepts.listed):
            right[row, glyph] = True
            right[glyph, glyph] = True  # the keyword may also be a glyph's name
        right = right[listed].to(self.device)
        best = (
            (self.texts(model, [concepts.texts[concept] for concept in listed]).double() @ image.double().T)
            .topk(5, 1)
            .indices
        )
        hits = right.gather(1, best)
        return {
            "keywords": len(listed),
            "keyword to glyph, top-1": float(hits[:, 0].float().mean()),
            "keyword to glyph, top-5": float(hits.any(1).float().mean()),
        }

    @torch.no_grad()
    def relations(self, model, rows=4096):
        """Two glyphs side by side: does "A left of B" win against "B left of A"?"""
        generator = self.generator(40)
        scenes = self.sampler.sample(rows, scene_types.PAIRS, generator)
        image = torch.cat([model.encode_image(self.renderer.render(scenes, scene_types.PAIRS, generator).float())])
        classes = self.classes[scenes.glyph[:, :2].clamp(min=0)]
        use = (~scenes.vertical & (classes[:, 0] != classes[:, 1])).nonzero().flatten().tolist()
        right, wrong = [], []
        for row in use:
            a, b = (self.names[glyph] for glyph in scenes.glyph[row, :2].tolist())
            if scenes.x[row, 0] > scenes.x[row, 1]:
                a, b = b, a
            right.append(f"{a} left of {b}")
            wrong.append(f"{b} left of {a}")
        good = (image[use].double() * self.texts(model, right)).sum(1) > (
            image[use].double() * self.texts(model, wrong)
        ).sum(1)
        return {"A left of B against B left of A": float(good.float().mean()), "relations": len(use)}

    @torch.no_grad()
    def retrieval(self, model, rows=1000):
        """Captions that name all glyphs of two- and three-glyph pictures, against each other."""
        generator = self.generator(50)
        scenes = self.sampler.sample(rows, scene_types.MANY, generator)
        image = model.encode_image(self.renderer.render(scenes, scene_types.MANY, generator).float())
        texts = []
        for row in range(rows):
            names = [self.names[glyph] for glyph in scenes.glyph[row].tolist() if glyph >= 0]
            texts.append(" and ".join(names))
        similar = image.double() @ self.texts(model, texts).double().T
        truth = torch.arange(rows, device=self.device)
        # Swapped twins do not exist here, but two pictures may hold the same glyphs: either is then right.
        return {
            "retrieval, image to text": float((similar.argmax(1) == truth).float().mean()),
            "retrieval, text to image": float((similar.argmax(0) == truth).float().mean()),
        }


def build(pack, device):
    entries, tiles, owner, kinds = glyphs.read_pack(pack)
    tokenizer = vocabulary.Tokenizer.from_folder(pack)
    sampler = scene_types.SceneSampler(entries, owner, kinds, device)
    renderer = render.Renderer(tiles, sampler, device)
    return Checker(
        entries, tokenizer, sampler, renderer, caption_writing.CaptionWriter(entries, tokenizer, device), device
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", required=True, type=pathlib.Path)
    parser.add_argument("--weights", required=True, type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--copies", type=int, default=4, help="renderings a glyph and test")
    options = parser.parse_args()
    model = towers.Clip().to(options.device).requires_grad_(False)
    model.load_state_dict(torch.load(options.weights, map_location=options.device))
    figures = build(options.pack, options.device).full(model, options.copies)
    text = json.dumps(figures, indent=1)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
