#!/usr/bin/env python3
"""Makes full-depth CLIPs that are hard on arithmetic, with what float64 computes on them, and checks an engine on them.

usage: make_outlier_models.py FOLDER [--models vit-b-32 vit-l-14-336 vit-h-14] [--dtype float16] [--seed 0]
                              [--vocab bpe_simple_vocab_16e6.txt.gz] [--check build/tandem]
       make_outlier_models.py FOLDER --torch-device cuda --pictures 16 --ends-only
                              --check build/tandem --device cuda:0 --precisions fp32 tf32 fp16 bf16 --json FILE

Needs torch, transformers and safetensors; vit-h-14 takes 2 GB of disk at float16 and 6 GB of memory. Nothing here is
committed: the script and its seeds are the recipe. With --torch-device cuda weights are drawn and goldens computed on the
GPU, in a minute for all three; they are others than those drawn on a processor.

What makes them hard, after what trained CLIPs show: in both towers a few channels of the residual stream are a hundred
times larger than the others (they enter with the embeddings, grow in some blocks' last products and biases, and the
norms' gains take them out again), and attention is sharp (query and key weights are scaled up, so that most of a row's
weight lies on a few keys).

FOLDER/NAME/ is a Hugging Face folder; goldens.safetensors beside it has the names of make_tiny_models.py (pixels,
vision.block_<i>.out, text.<k>.ids, …) in float32, computed in float64 one block at a time. picture_<i>.png are the
pixels as files of exactly the model's size. The script prints how far torch's own float32 is from float64: the yardstick
for every other float32 engine. With --check the tandem command embeds the pictures (`embed`) and the texts (`embed`
with --vocab, otherwise their ids through `bench`) in each of --precisions, and its vectors are compared: least cosine,
and the largest difference of the unit vectors. --json writes what was found, for bench/gpu_table.py.
"""
import argparse
import copy
import datetime
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
COSINE = {"fp32": 0.999999, "tf32": 0.99999, "fp16": 0.9999, "bf16": 0.999}  # the least allowed
SHARPNESS = 1.6   # of query and key weights: logits have a deviation of about its square
OUTLIER = 100.0   # of the large channels, in units of the others


def generator(seed, name, device="cpu"):
    return torch.Generator(device).manual_seed(seed * 1_000_003 + zlib.crc32(name.encode()))


def make_weights(model, seed):
    """Every tensor from the seed and its name alone (and the kind of device)."""
    for name, p in model.named_parameters():
        value = torch.randn(p.shape, generator=generator(seed, name, p.device.type), device=p.device)
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
    device = layers[0].mlp.fc2.bias.device
    channels, signs = channels.to(device), torch.tensor([1.0, -1.0, 1.0, -1.0], device=device)
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


def build(name, seed, dtype, device="cpu"):
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
    model.to_empty(device=device)
    make_weights(model, seed)
    channels = {}
    for tower, c in ((model.vision_model, config.vision_config), (model.text_model, config.text_config)):
        channels[c.model_type] = add_outliers(tower, tower.encoder.layers, c.hidden_size, seed)
    for p in model.parameters():
        p.data = p.data.to(dtype).to(torch.float32)
    model.vision_model.embeddings.position_ids = torch.arange(
        model.vision_model.embeddings.num_positions, device=device).expand((1, -1))
    model.text_model.embeddings.position_ids = torch.arange(77, device=device).expand((1, -1))
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
    """All activations of one precision; `keep(name, tensor)` gets them as they come, on the model's device."""
    vision, text = model.vision_model, model.text_model
    device = model.logit_scale.device
    x = ((pixels.to(torch.float64) / 255 - MEAN) / STD).permute(0, 3, 1, 2).to(device, dtype)
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

    states = [run(text.embeddings, dtype, torch.tensor([one], device=device)) for one in ids]
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
    model, config, channels = build(name, args.seed, getattr(torch, args.dtype), args.torch_device)
    save_file({n: p.data.to("cpu", getattr(torch, args.dtype)) for n, p in model.named_parameters()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    config.save_pretrained(folder)
    side = config.vision_config.image_size
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": side}, "crop_size": side}))
    pixels = pictures(args.pictures, side, args.seed)
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
    forward(model, pixels, ids, torch.float64, lambda n, t: want.__setitem__(n, t.to("cpu", torch.float32).contiguous()))
    for n, t in want.items():
        assert torch.isfinite(t).all(), n
    worst = {}
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    forward(model, pixels, ids, torch.float32, lambda n, t: worst.__setitem__(n, compare(t.cpu(), want[n])))
    for n in ("vision.projected", "text.projected"):
        print(f"{name}: torch float32 against float64, {n}: cosine {worst[n][0]:.9f}, max abs {worst[n][1]:.2e}")
    for tower in ("vision", "text.0"):
        last = [n for n in want if n.startswith(tower + ".block")][-1]
        row = want[last].reshape(-1, want[last].shape[-1]).abs()
        print(f"{name}: {last}: largest channel {row.max():.0f}, median {row.median():.2f}")
    if args.ends_only:
        want = {n: t for n, t in want.items() if "projected" in n or "pooled" in n}
    want["pixels"] = pixels
    for k, one in enumerate(ids):
        want[f"text.{k}.ids"] = torch.tensor(one, dtype=torch.int32)
    save_file(want, folder / "goldens.safetensors")
    (folder / "goldens.json").write_text(json.dumps(
        {"made_by": "tests/golden/make_outlier_models.py", "seed": args.seed, "dtype": args.dtype, "channels": channels,
         "torch": torch.__version__, "transformers": transformers.__version__, "ids": ids,
         "texts": TEXTS if args.vocab else None}))


def vectors(folder, binary, want, manifest, device, precision):
    """What the program gives for the pictures, as files, and the texts: as strings where they are known, else as ids."""
    pictures = [folder / f"picture_{i}.png" for i in range(len(want["pixels"]))]
    common = ["--model", folder, "--device", device, "--precision", precision, "--quiet"]
    with tempfile.TemporaryDirectory() as scratch:
        command = [binary, "embed", *common, "--reference", "hf", "--output", f"{scratch}/out.safetensors", "--images", *pictures]
        if manifest["texts"]:
            (Path(scratch) / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in manifest["texts"]))
            command += ["--texts", f"{scratch}/texts.jsonl", "--cleaning", "openai"]
        subprocess.run([str(c) for c in command], check=True)
        got = load_file(f"{scratch}/out.safetensors")["embeddings"]
        images, texts = got[:len(pictures)], got[len(pictures):]
        if not manifest["texts"]:
            rows = manifest["ids"]
            ids = torch.tensor([row + [row[-1]] * (77 - len(row)) for row in rows], dtype=torch.int32)
            lengths = torch.tensor([len(row) for row in rows], dtype=torch.int32)
            save_file({"input_ids": ids, "lengths": lengths}, f"{scratch}/ids.safetensors")
            command = [binary, "bench", *common, "--what", "text", "--input", f"{scratch}/ids.safetensors", "--runs", "1",
                       "--output", f"{scratch}/texts.safetensors", "--json"]
            subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL)
            texts = load_file(f"{scratch}/texts.safetensors")["text_embeds"]
    return {"vision": images, "text": texts}


def check(folder, binary, device, precision):
    """One entry a tower: how near the program's vectors are, and whether that is near enough."""
    want, manifest, found = load_file(folder / "goldens.safetensors"), json.loads((folder / "goldens.json").read_text()), []
    for what, rows in vectors(folder, binary, want, manifest, device, precision).items():
        cosine, largest = compare(rows, want[f"{what}.projected_normalized"])
        ok = cosine >= COSINE[precision] and (precision != "fp32" or largest <= 2e-5)
        print(f"{folder.name}: {binary} on {device}, {precision}, {what}: cosine {cosine:.9f}, max abs {largest:.2e} "
              f"{'ok' if ok else 'TOO FAR'}", flush=True)
        found.append({"model": f"{folder.name} with outlier channels, {what}", "precision": precision, "vectors": len(rows),
                      "cosine": cosine, "max_abs": largest, "allowed": COSINE[precision], "ok": ok})
    return found


def machine(device):
    """What a result file says about where it was measured."""
    name = torch.cuda.get_device_name(0) if device.startswith("cuda") and torch.cuda.is_available() else device
    return {"name": name, "date": str(datetime.date.today()), "torch": torch.__version__,
            "transformers": transformers.__version__}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocab", type=Path)
    parser.add_argument("--torch-device", default="cpu", help="where weights are drawn and goldens computed")
    parser.add_argument("--pictures", type=int, default=2)
    parser.add_argument("--ends-only", action="store_true", help="no activations of single blocks in the golden file")
    parser.add_argument("--check", metavar="TANDEM")
    parser.add_argument("--device", default="cpu", help="of the program that is checked")
    parser.add_argument("--precisions", nargs="+", choices=COSINE, default=["fp32"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results, errors = [], []
    for name in args.models:
        folder = args.folder / name
        if not (folder / "goldens.json").exists():
            make(folder, name, args)
        for precision in args.precisions if args.check else []:
            try:
                results += check(folder, args.check, args.device, precision)
            except Exception as e:  # the others are still worth knowing
                errors.append(f"{name} {precision}: {e!r}"[:600])
                print(f"FAILED {errors[-1]}", flush=True)
        if args.json:
            args.json.write_text(json.dumps({"kind": "accuracy", "machine": machine(args.device), "errors": errors, "command":
                f"tests/golden/make_outlier_models.py FOLDER --check build/tandem --device {args.device} --precisions "
                + " ".join(args.precisions), "results": results}, indent=1) + "\n")
    sys.exit(bool(errors) or not all(r["ok"] for r in results))


if __name__ == "__main__":
    main()
