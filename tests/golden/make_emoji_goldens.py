#!/usr/bin/env python3
"""Makes tests/golden/emoji_embeddings.json: what transformers computes with the shipped emoji model.

usage: make_emoji_goldens.py            (needs torch, torchvision, transformers, Pillow)

For eight pictures of models/emoji/test_sample, preprocessed in both of transformers' ways (`hf`: Pillow, `hf-fast`:
torchvision), and for eight texts: the vision or text width's pooled features (after the final norm, before the
projection) and the projected embedding, neither normalised, computed in float32 on the stored fp16 weights; token ids
with start and end and without padding; and the scale of the logits. `model_sha256` says which weights these belong to.
"""

import hashlib
import json
from pathlib import Path

import torch
import transformers
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "emoji"
TEXTS = [
    "red heart",
    "a photo of a pizza",
    "here you can see a flag of são tomé & príncipe",
    "a dog left of a red apple",
    "three snowmen on a blue background",
    "money",
    "",
    "KEYCAP: 3 " + "and a very long text that must be cut " * 6,
]


def numbers(row):
    """Nine significant digits carry a float32 exactly."""
    return [float(f"{value:.9g}") for value in row.tolist()]


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    model = CLIPModel.from_pretrained(MODEL, dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(MODEL)
    pictures = sorted(p for p in (MODEL / "test_sample").rglob("*") if p.suffix in (".jpg", ".png"))
    chosen = pictures[:: len(pictures) // 8][:8]
    golden = {
        "made_with": {"torch": torch.__version__, "transformers": transformers.__version__},
        "model_sha256": hashlib.sha256((MODEL / "model.safetensors").read_bytes()).hexdigest(),
        "logit_scale": float(model.logit_scale.exp()),
        "images": [],
        "texts": [],
    }
    for path in chosen:
        entry = {"file": path.relative_to(ROOT).as_posix()}
        for reference, kind in (("hf", CLIPImageProcessorPil), ("hf-fast", CLIPImageProcessor)):
            pixels = kind.from_pretrained(MODEL)(images=Image.open(path).convert("RGB"), return_tensors="pt")[
                "pixel_values"
            ]
            pooled = model.vision_model(pixel_values=pixels).pooler_output
            entry[reference] = {"pooled": numbers(pooled[0]), "projected": numbers(model.visual_projection(pooled)[0])}
        golden["images"].append(entry)
    for text in TEXTS:
        ids = tokenizer(text, truncation=True, max_length=32, return_tensors="pt")["input_ids"]
        pooled = model.text_model(input_ids=ids).pooler_output
        golden["texts"].append(
            {
                "text": text,
                "ids": ids[0].tolist(),
                "pooled": numbers(pooled[0]),
                "projected": numbers(model.text_projection(pooled)[0]),
            }
        )
    out = Path(__file__).with_name("emoji_embeddings.json")
    lines = (
        json.dumps(golden, ensure_ascii=False, separators=(",", ":"))
        .replace('{"file"', '\n{"file"')
        .replace('{"text"', '\n{"text"')
    )
    out.write_text(lines + "\n", encoding="utf-8")
    print(f"{out}: {out.stat().st_size:,} bytes, {len(golden['images'])} pictures, {len(golden['texts'])} texts")


if __name__ == "__main__":
    main()
