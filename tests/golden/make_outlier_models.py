#!/usr/bin/env python3
"""Makes full-depth CLIPs that are hard on arithmetic, with what float64 computes on them, and checks an engine on them.

usage: make_outlier_models.py FOLDER [--models vit-b-32 vit-l-14-336 vit-h-14] [--dtype float16] [--seed 0]
                              [--vocab bpe_simple_vocab_16e6.txt.gz] [--check build/tandem]

Needs torch, transformers and safetensors; vit-h-14 takes 2 GB of disk at float16 and 6 GB of memory. Nothing here is
committed: the script and its seeds are the recipe.

What makes them hard, after what trained CLIPs show: in both towers a few channels of the residual stream are a hundred
times larger than the others (they enter with the embeddings, grow in some blocks' last products and biases, and the
norms' gains take them out again), and attention is sharp (query and key weights are scaled up, so that most of a row's
weight lies on a few keys).

FOLDER/NAME/ is a Hugging Face folder; goldens.safetensors beside it has the names of make_tiny_models.py (pixels,
vision.block_<i>.out, text.<k>.ids, …) in float32, computed in float64 one block at a time. picture_<i>.png are the
pixels as files of exactly the model's size. The script prints how far torch's own float32 is from float64: the yardstick
for every other float32 engine. With --check the tandem command embeds pictures and (with --vocab) texts, and its
vectors are compared: cosine, and the largest difference of the unit vectors.
"""
import argparse
import copy
import json
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

SHAPES = {  # vision width, layers, heads, mlp, patch, image; text width, layers, heads; embedding; activation
    "vit-b-32": ((768, 12, 12, 3072, 32, 224), (512, 12, 8), 512, "quick_gelu"),
    "vit-l-14-336": ((1024, 24, 16, 4096, 14, 336), (768, 12, 12), 768, "quick_gelu"),
    "vit-h-14": ((1280, 32, 16, 5120, 14, 224), (1024, 24, 16), 1024, "gelu"),
}
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073], dtype=torch.float64)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711], dtype=torch.float64)
TEXTS = ["a photo of a cat", "two dogs, running along the beach at sunset; film grain", ""]
SHARPNESS = 1.6   # of query and key weights: logits have a deviation of about its square
OUTLIER = 100.0   # of the large channels, in units of the others


def generator(seed, name):
    return torch.Generator().manual_seed(seed * 1_000_003 + zlib.crc32(name.encode()))


def make_weights(model, seed):
    """Every tensor from the seed and its name alone."""
    for name, p in model.named_parameters():
        value = torch.randn(p.shape, generator=generator(seed, name))
        tower = model.config.vision_config if name.startswith("vision") else model.config.text_config
        width, layers = tower.hidden_size, tower.num_hidden_layers
        if name == "logit_scale":
            value = torch.tensor(4.6052)
        elif "norm" in name or "layrnorm" in name:
            value = 1 + 0.1 * value if name.endswith("weight") else 0.05 * value
        elif name.endswith("bias"):
            value *= 0.05
        elif "q_proj" in name or "k_proj" in name:
            value *= SHARPNESS * width**-0.5
        elif "out_proj" in name or "fc2" in name:
            value *= p.shape[1] ** -0.5 * (2 * layers) ** -0.5 * 1.5
        elif "patch_embedding" in name:
            value *= p[0].numel() ** -0.5
        elif "embedding" in name:
            value *= 0.5
        else:
            value *= p.shape[-1] ** -0.5
        p.data.copy_(value)


def add_outliers(tower, layers, width, seed):
    """Scripted large channels: `tower` is vision_model or text_model."""
    g = generator(seed, f"outliers {width} {len(layers)}")
    channels = torch.randperm(width, generator=g)[:4]
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0])
    if hasattr(tower, "pre_layrnorm"):
        tower.pre_layrnorm.bias.data[channels] += OUTLIER * 0.5 * signs
        tower.pre_layrnorm.weight.data[channels[:1]] *= 20  # large, and different in every token
    else:
        tower.embeddings.position_embedding.weight.data[:, channels] += OUTLIER * 0.5 * signs
        tower.embeddings.token_embedding.weight.data[:, channels[:1]] *= 20
    grow = [len(layers) // 4, len(layers) // 2]
    for i, layer in enumerate(layers):
        if i in grow:
            layer.mlp.fc2.bias.data[channels] += OUTLIER * 0.25 * signs
            layer.mlp.fc2.weight.data[channels] *= 10
            layer.self_attn.out_proj.weight.data[channels[:2]] *= 10
        for norm in (layer.layer_norm1, layer.layer_norm2):
            norm.weight.data *= 4  # the large channels make the others small after the norm: undo it,
            norm.weight.data[channels] *= 0.02  # and take the large ones out
    final = tower.post_layernorm if hasattr(tower, "post_layernorm") else tower.final_layer_norm
    final.weight.data *= 4
    final.weight.data[channels] *= 0.02
    return channels.tolist()


def build(name, seed, dtype):
    (vw, vl, vh, vm, patch, image), (tw, tl, th), embed, act = SHAPES[name]
    config = transformers.CLIPConfig(
        projection_dim=embed,
        vision_config={"hidden_size": vw, "num_hidden_layers": vl, "num_attention_heads": vh, "intermediate_size": vm,
                       "patch_size": patch, "image_size": image, "hidden_act": act},
        text_config={"hidden_size": tw, "num_hidden_layers": tl, "num_attention_heads": th, "intermediate_size": 4 * tw,
                     "hidden_act": act, "eos_token_id": 49407, "bos_token_id": 49406})
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        model = transformers.CLIPModel(config)
    model.to_empty(device="cpu")
    make_weights(model, seed)
    channels = {}
    for tower, c in ((model.vision_model, config.vision_config), (model.text_model, config.text_config)):
        channels[c.model_type] = add_outliers(tower, tower.encoder.layers, c.hidden_size, seed)
    for p in model.parameters():
        p.data = p.data.to(dtype).to(torch.float32)
    model.vision_model.embeddings.position_ids = torch.arange(model.vision_model.embeddings.num_positions).expand((1, -1))
    model.text_model.embeddings.position_ids = torch.arange(77).expand((1, -1))
    return model.eval(), config, channels


def pictures(count, side, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    out = np.zeros((count, side, side, 3))
    for i in range(count):
        for c in range(3):
            fx, fy, ph = rng.uniform(1, 25), rng.uniform(1, 25), rng.uniform(0, 6)
            out[i, :, :, c] = 128 + 100 * np.sin(fx * x + fy * y + ph) + rng.normal(0, 30, (side, side))
    return torch.from_numpy(out.clip(0, 255).astype(np.uint8))


def run(module, dtype, *args, **kwargs):
    """One module's result in another type, on a copy that lives only as long."""
    return copy.deepcopy(module).to(dtype)(*args, **kwargs)


@torch.no_grad()
def forward(model, pixels, ids, dtype, keep):
    """All activations of one precision; `keep(name, tensor)` gets them as they come."""
    vision, text = model.vision_model, model.text_model
    x = ((pixels.to(torch.float64) / 255 - MEAN) / STD).permute(0, 3, 1, 2).to(dtype)
    x = run(vision.embeddings, dtype, x)
    keep("vision.embed", x)
    x = run(vision.pre_layrnorm, dtype, x)
    keep("vision.pre_norm", x)
    for i, layer in enumerate(vision.encoder.layers):
        x = run(layer, dtype, x, attention_mask=None)
        keep(f"vision.block_{i}.out", x)
    pooled = run(vision.post_layernorm, dtype, x[:, 0])
    keep("vision.pooled", pooled)
    projected = run(model.visual_projection, dtype, pooled)
    keep("vision.projected", projected)
    keep("vision.projected_normalized", projected / projected.norm(dim=-1, keepdim=True))

    states = [run(text.embeddings, dtype, torch.tensor([one])) for one in ids]
    for k, x in enumerate(states):
        keep(f"text.{k}.embed", x[0])
    for i, layer in enumerate(text.encoder.layers):
        states = [run(layer, dtype, x, attention_mask=None, is_causal=True) for x in states]
        for k, x in enumerate(states):
            keep(f"text.{k}.block_{i}.out", x[0])
    pooled = run(text.final_layer_norm, dtype, torch.stack([x[0, -1] for x in states]))
    keep("text.pooled", pooled)
    projected = run(model.text_projection, dtype, pooled)
    keep("text.projected", projected)
    keep("text.projected_normalized", projected / projected.norm(dim=-1, keepdim=True))


def compare(got, want):
    """Worst cosine, and largest difference of unit vectors, over rows."""
    got, want = got.double(), want.double()
    got, want = got / got.norm(dim=-1, keepdim=True), want / want.norm(dim=-1, keepdim=True)
    return float((got * want).sum(-1).min()), float((got - want).abs().max())


def make(folder, name, args):
    folder.mkdir(parents=True, exist_ok=True)
    model, config, channels = build(name, args.seed, getattr(torch, args.dtype))
    save_file({n: p.data.to(getattr(torch, args.dtype)) for n, p in model.named_parameters()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    config.save_pretrained(folder)
    side = config.vision_config.image_size
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": side}, "crop_size": side}))
    pixels = pictures(2, side, args.seed)
    for i, p in enumerate(pixels):
        Image.fromarray(p.numpy()).save(folder / f"picture_{i}.png")
    g = generator(args.seed, "ids")
    ids = [[49406, *torch.randint(0, 49406, (n,), generator=g).tolist(), 49407] for n in (5, 14, 0, 75)]
    if args.vocab:
        import open_clip
        shutil.copy(args.vocab, folder / "bpe_simple_vocab_16e6.txt.gz")
        tokenizer = open_clip.tokenizer.SimpleTokenizer(str(args.vocab))
        ids = [[49406, *tokenizer.encode(t), 49407] for t in TEXTS]
    want = {}
    forward(model, pixels, ids, torch.float64, lambda n, t: want.__setitem__(n, t.to(torch.float32).contiguous()))
    for n, t in want.items():
        assert torch.isfinite(t).all(), n
    worst = {}
    forward(model, pixels, ids, torch.float32, lambda n, t: worst.__setitem__(n, compare(t, want[n])))
    for n in ("vision.projected", "text.projected"):
        print(f"{name}: torch float32 against float64, {n}: cosine {worst[n][0]:.9f}, max abs {worst[n][1]:.2e}")
    for tower in ("vision", "text.0"):
        last = [n for n in want if n.startswith(tower + ".block")][-1]
        row = want[last].reshape(-1, want[last].shape[-1]).abs()
        print(f"{name}: {last}: largest channel {row.max():.0f}, median {row.median():.2f}")
    want["pixels"] = pixels
    for k, one in enumerate(ids):
        want[f"text.{k}.ids"] = torch.tensor(one, dtype=torch.int32)
    save_file(want, folder / "goldens.safetensors")
    (folder / "goldens.json").write_text(json.dumps(
        {"made_by": "tests/golden/make_outlier_models.py", "seed": args.seed, "dtype": args.dtype, "channels": channels,
         "torch": torch.__version__, "transformers": transformers.__version__, "ids": ids,
         "texts": TEXTS if args.vocab else None}))


def check(folder, binary):
    want, manifest = load_file(folder / "goldens.safetensors"), json.loads((folder / "goldens.json").read_text())
    count, bad = len(want["pixels"]), False
    with tempfile.TemporaryDirectory() as scratch:
        command = [binary, "embed", "--model", folder, "--precision", "fp32", "--reference", "hf", "--output", f"{scratch}/out.safetensors",
                   "--images", *[folder / f"picture_{i}.png" for i in range(count)]]
        if manifest["texts"]:
            (Path(scratch) / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in manifest["texts"]))
            command += ["--texts", f"{scratch}/texts.jsonl", "--cleaning", "openai"]
        subprocess.run([str(c) for c in command], check=True)
        got = load_file(f"{scratch}/out.safetensors")["embeddings"]
    for what, rows in (("vision", got[:count]), ("text", got[count:])):
        if len(rows) == 0:
            continue
        cosine, largest = compare(rows, want[f"{what}.projected_normalized"])
        ok = cosine >= 0.999999 and largest <= 2e-5
        bad |= not ok
        print(f"{folder.name}: {binary}, {what}: cosine {cosine:.9f}, max abs {largest:.2e} {'ok' if ok else 'TOO FAR'}")
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocab", type=Path)
    parser.add_argument("--check", metavar="TANDEM")
    args = parser.parse_args()
    bad = False
    for name in args.models:
        folder = args.folder / name
        if not (folder / "goldens.json").exists():
            make(folder, name, args)
        if args.check:
            bad |= check(folder, args.check)
    sys.exit(bad)


if __name__ == "__main__":
    main()
