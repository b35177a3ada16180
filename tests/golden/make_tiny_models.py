#!/usr/bin/env python3
"""Makes the small models of tests/golden/tiny/ and what the references compute with them.

usage: make_tiny_models.py [NAME ...]      (all without a name; needs torch, transformers, open_clip, safetensors)

Every folder holds a complete checkpoint in one of the layouts that Tandem reads, with a tokenizer of about 550 tokens,
and beside it
  goldens.safetensors  pixels [N,S,S,3] u8; vision.embed [N,T,D], vision.pre_norm, vision.block_<i>.out, vision.pooled
                       [N,D] (after the final norm), vision.projected [N,P], vision.projected_normalized;
                       for text k, without padding: text.<k>.ids, text.<k>.embed [L,D], text.<k>.block_<i>.out; for all
                       texts text.pooled [K,D], text.projected, text.projected_normalized; logits [N,K]
  goldens.json         versions, texts, ids, sha256 of every file of the checkpoint, and of every weight under its
                       canonical name [elements, sum, sum of value * (1 + index mod 7)], as the loaded model has them
The references run in float64 on the stored (rounded) weights; results are stored as float32. Weights are random, with
biases, norms away from one and attention sharp enough for its softmax to matter. Everything comes from fixed seeds.
"""
import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import open_clip
import torch
import transformers
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent / "tiny"
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]
TEXTS = ["a red heart", "the cat's 3 dogs ran in the rain, again & again", "", "anthem of the inner state"]
MERGES = ["a n", "t h", "i n", "th e</w>", "r e", "a t", "a n</w>", "in g</w>", "o f</w>", "e r", "s t", "an d</w>",
          "d o", "c at</w>", "h e", "he a", "r t</w>", "re d</w>", "st at", "in n", "stat e</w>", "a in</w>",
          "inn er</w>", "g ain</w>", "hea rt</w>", "do g", "dog s</w>"]


def byte_symbols():
    """The 256 printable symbols that stand for bytes (Radford et al. 2019), in CLIP's order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}


def write_tokenizer(folder, kind):
    symbols = list(byte_symbols().values())
    words = symbols + [s + "</w>" for s in symbols]
    merges = []
    for merge in MERGES:  # only merges whose parts exist
        a, b = merge.split()
        if a in words and b in words:
            merges.append((a, b))
            words.append(a + b)
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {w: i for i, w in enumerate(words)}
    tokenizer = transformers.CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=20)
    if kind == "json":
        tokenizer.save_pretrained(folder)
    else:
        (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return tokenizer, len(vocab)


def randomise(model, seed):
    """Weights at CLIP's usual scales, wider where it makes a mistake visible."""
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        if name == "logit_scale":
            value = torch.full(p.shape, 3.25)
        else:
            value = torch.randn(p.shape, generator=g)
            if p.ndim >= 2 and ("embedding" not in name or "patch_embedding" in name):
                fan = p[0].numel() if "proj" != name.split(".")[-1] and name != "text_projection" else p.shape[0]
                value *= fan**-0.5
                if any(k in name for k in ("q_proj", "k_proj", "in_proj")):
                    value *= 1.8
            elif p.ndim == 1 and name.endswith("weight"):
                value = 1 + 0.25 * value
            elif name.endswith("bias"):
                value *= 0.2
            else:
                value *= 0.4
        p.data.copy_(value)


def round_to(model, dtype, keep_norms=False):
    """The stored tensors, and the same values back in the model, in float64."""
    state = {}
    for name, p in model.named_parameters():
        t = torch.float32 if keep_norms and (p.ndim < 2) else dtype
        state[name] = p.data.to(t).contiguous().clone()
        p.data = state[name].to(torch.float64)
    model.double().eval()
    return state


def make_pixels(n, side, seed):
    """Blobs and noise, so that patches differ and every channel counts."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    out = np.zeros((n, side, side, 3))
    for i in range(n):
        for c in range(3):
            fx, fy, ph = rng.uniform(1, 9, 2).tolist() + [rng.uniform(0, 6)]
            out[i, :, :, c] = 128 + 110 * np.sin(fx * x + fy * y + ph) + rng.normal(0, 25, (side, side))
    return torch.from_numpy(out.clip(0, 255).astype(np.uint8))


def normalise(pixels, mean=MEAN, std=STD):
    x = pixels.to(torch.float64) / 255
    x = (x - torch.tensor(mean, dtype=torch.float64)) / torch.tensor(std, dtype=torch.float64)
    return x.permute(0, 3, 1, 2).contiguous()


class Tap:
    """Keeps what modules return during one call."""

    def __init__(self):
        self.seen, self.hooks = {}, []

    def on(self, module, name, before=False):
        keep = lambda v: self.seen.__setitem__(name, (v[0] if isinstance(v, tuple) else v).detach().clone())
        if before:
            self.hooks.append(module.register_forward_pre_hook(lambda m, a, k: keep(a[0] if a else k["hidden_states"]), with_kwargs=True))
        else:
            self.hooks.append(module.register_forward_hook(lambda m, i, o: keep(o)))

    def done(self):
        for h in self.hooks:
            h.remove()
        return self.seen


def canonical_weights(model):
    """Every weight under Tandem's name, taken from the modules and not from their names: a second opinion on the map."""
    out = {}

    def both(name, weight, bias):
        out[name + ".weight"], out[name + ".bias"] = weight, bias

    hf = hasattr(model, "vision_model")
    if hf:
        v, t = model.vision_model, model.text_model
        towers = [("vision", v.encoder.layers), ("text", t.encoder.layers)]
        out["vision.patch_embed.weight"] = v.embeddings.patch_embedding.weight
        out["vision.class_embedding"] = v.embeddings.class_embedding
        out["vision.position_embedding"] = v.embeddings.position_embedding.weight
        norms = [("vision.ln_pre", v.pre_layrnorm), ("vision.ln_post", v.post_layernorm), ("text.ln_final", t.final_layer_norm)]
        out["vision.projection"], out["text.projection"] = model.visual_projection.weight, model.text_projection.weight
        out["text.token_embedding"] = t.embeddings.token_embedding.weight
        out["text.position_embedding"] = t.embeddings.position_embedding.weight
    else:
        v, t = model.visual, getattr(model, "text", model)
        towers = [("vision", v.transformer.resblocks), ("text", t.transformer.resblocks)]
        out["vision.patch_embed.weight"], out["vision.class_embedding"] = v.conv1.weight, v.class_embedding
        out["vision.position_embedding"] = v.positional_embedding
        norms = [("vision.ln_pre", v.ln_pre), ("vision.ln_post", v.ln_post), ("text.ln_final", t.ln_final)]
        out["vision.projection"], out["text.projection"] = v.proj.T, t.text_projection.T
        out["text.token_embedding"], out["text.position_embedding"] = t.token_embedding.weight, t.positional_embedding
    for name, norm in norms:
        both(name, norm.weight, norm.bias)
    for tower, blocks in towers:
        for i, b in enumerate(blocks):
            at = f"{tower}.blocks.{i}."
            if hf:
                a = b.self_attn
                parts = (a.q_proj, a.k_proj, a.v_proj)
                both(at + "attn.qkv", torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))
                rest = [("ln_1", b.layer_norm1), ("ln_2", b.layer_norm2), ("attn.out", a.out_proj), ("mlp.fc1", b.mlp.fc1),
                        ("mlp.fc2", b.mlp.fc2)]
            else:
                both(at + "attn.qkv", b.attn.in_proj_weight, b.attn.in_proj_bias)
                rest = [("ln_1", b.ln_1), ("ln_2", b.ln_2), ("attn.out", b.attn.out_proj), ("mlp.fc1", b.mlp.c_fc),
                        ("mlp.fc2", b.mlp.c_proj)]
            for name, module in rest:
                both(at + name, module.weight, module.bias)
    out["logit_scale"] = model.logit_scale
    sums = {}
    for name, w in out.items():
        flat = w.detach().double().flatten()
        sums[name] = [flat.numel(), float(flat.sum()), float((flat * (1 + torch.arange(flat.numel()) % 7)).sum())]
    return sums


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


@torch.no_grad()
def hf_goldens(model, pixels, ids):
    out, tap = {}, Tap()
    vision, text = model.vision_model, model.text_model
    tap.on(vision.embeddings, "vision.embed")
    tap.on(vision.pre_layrnorm, "vision.pre_norm")
    for i, layer in enumerate(vision.encoder.layers):
        tap.on(layer, f"vision.block_{i}.out")
    pooled = vision(pixel_values=normalise(pixels)).pooler_output
    out |= tap.done()
    projected = model.visual_projection(pooled)
    out |= {"vision.pooled": pooled, "vision.projected": projected, "vision.projected_normalized": unit(projected)}
    pools = []
    for k, one in enumerate(ids):
        tap = Tap()
        tap.on(text.embeddings, f"text.{k}.embed")
        for i, layer in enumerate(text.encoder.layers):
            tap.on(layer, f"text.{k}.block_{i}.out")
        pools.append(text(input_ids=torch.tensor([one])).pooler_output[0])
        out |= {n: v[0] for n, v in tap.done().items()}
    pooled = torch.stack(pools)
    projected = model.text_projection(pooled)
    out |= {"text.pooled": pooled, "text.projected": projected, "text.projected_normalized": unit(projected)}
    return out


@torch.no_grad()
def openclip_goldens(model, pixels, ids):
    out, tap = {}, Tap()
    visual, text = model.visual, getattr(model, "text", model)
    tap.on(visual.ln_pre, "vision.embed", before=True)
    tap.on(visual.ln_pre, "vision.pre_norm")
    for i, block in enumerate(visual.transformer.resblocks):
        tap.on(block, f"vision.block_{i}.out")
    tap.on(visual.ln_post, "vision.tokens")
    projected = visual(normalise(pixels))
    out |= tap.done()
    out["vision.pooled"] = out.pop("vision.tokens")[:, 0]
    out |= {"vision.projected": projected, "vision.projected_normalized": unit(projected)}
    pools, projections = [], []
    for k, one in enumerate(ids):
        padded = torch.zeros(1, model.context_length, dtype=torch.long)
        padded[0, : len(one)] = torch.tensor(one)
        tap = Tap()
        tap.on(text.transformer.resblocks[0], f"text.{k}.embed", before=True)
        for i, block in enumerate(text.transformer.resblocks):
            tap.on(block, f"text.{k}.block_{i}.out")
        tap.on(text.ln_final, "final")
        projections.append(model.encode_text(padded)[0])
        seen = tap.done()
        pools.append(seen.pop("final")[0, len(one) - 1])
        out |= {n: v[0, : len(one)] for n, v in seen.items()}  # causal: what follows the end cannot matter
    out |= {"text.pooled": torch.stack(pools), "text.projected": torch.stack(projections)}
    out["text.projected_normalized"] = unit(out["text.projected"])
    return out


def finish(folder, model, values, pixels, ids, logit_scale):
    values["logits"] = logit_scale.exp() * values["vision.projected_normalized"] @ values["text.projected_normalized"].T
    for name, v in values.items():
        assert torch.isfinite(v).all(), name
    stored = {n: v.to(torch.float32).contiguous() for n, v in values.items()}
    stored["pixels"] = pixels
    for k, one in enumerate(ids):
        stored[f"text.{k}.ids"] = torch.tensor(one, dtype=torch.int32)
    files = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())}
    save_file(stored, folder / "goldens.safetensors")
    for file in folder.iterdir():
        file.chmod(0o644)
    manifest = {"made_by": "tests/golden/make_tiny_models.py", "torch": torch.__version__,
                "transformers": transformers.__version__, "open_clip": open_clip.__version__, "texts": TEXTS,
                "ids": ids, "mean": MEAN, "std": STD, "logit_scale": float(logit_scale), "sha256": files,
                "weights": canonical_weights(model)}
    (folder / "goldens.json").write_text(json.dumps(manifest, separators=(",", ":")).replace('],"', '],\n"') + "\n")
    print(folder.name, sum(f.stat().st_size for f in folder.iterdir()), "bytes")


def fresh(name):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def dump(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def hf_model(name, seed, vision, text, projection, dtype, tokenizer="files", top=None, preprocess=None, keep_norms=False):
    """A folder with config.json (only what differs from the defaults) and a CLIPModel with its stored tensors."""
    folder = fresh(name)
    tok, vocab = write_tokenizer(folder, tokenizer)
    text = {"vocab_size": vocab, "max_position_embeddings": 20, "bos_token_id": vocab - 2, "eos_token_id": vocab - 1} | text
    raw = {"model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": projection, "vision_config": vision,
           "text_config": text} | (top or {})
    dump(folder / "config.json", raw)
    if preprocess is not None:
        dump(folder / "preprocessor_config.json", preprocess)
    config = transformers.CLIPConfig.from_pretrained(folder)
    config._attn_implementation = "sdpa"  # float64 all through; the eager softmax is float32
    model = transformers.CLIPModel(config)
    randomise(model, seed)
    state = round_to(model, dtype, keep_norms)
    ids = [tok(t, truncation=True)["input_ids"] for t in TEXTS]
    side = config.vision_config.image_size
    pixels = make_pixels(2, side, seed)
    return folder, model, state, pixels, ids


def hf_quickgelu():
    """safetensors in float32, most defaults left out, 4 x 4 patches of 7."""
    folder, model, state, pixels, ids = hf_model(
        "hf_quickgelu", 1,
        {"hidden_size": 36, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 28,
         "patch_size": 7},
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}, 24, torch.float32,
        preprocess={"crop_size": 28, "do_center_crop": True, "do_normalize": True, "do_resize": True, "size": 28,
                    "resample": 3, "image_mean": MEAN, "image_std": STD, "feature_extractor_type": "CLIPFeatureExtractor"})
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    finish(folder, model, hf_goldens(model, pixels, ids), pixels, ids, model.logit_scale.detach())


def hf_gelu_head80():
    """Exact GELU, two heads of 80, 5 tokens, float16, patch 7, another epsilon, another projection size."""
    folder, model, state, pixels, ids = hf_model(
        "hf_gelu_head80", 2,
        {"hidden_size": 160, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 14,
         "patch_size": 7, "hidden_act": "gelu", "layer_norm_eps": 1e-4},
        {"hidden_size": 40, "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 2,
         "hidden_act": "gelu"}, 36, torch.float16,
        preprocess={"size": {"shortest_edge": 14}, "crop_size": {"height": 14, "width": 14}, "resample": 3,
                    "image_processor_type": "CLIPImageProcessor"})
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    finish(folder, model, hf_goldens(model, pixels, ids), pixels, ids, model.logit_scale.detach())


def hf_bf16_sharded():
    """bfloat16 in two safetensors files with an index, tokenizer.json, the tanh GELU, 4 x 4 patches of 14."""
    folder, model, state, pixels, ids = hf_model(
        "hf_bf16_sharded", 3,
        {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 56,
         "patch_size": 14, "hidden_act": "gelu_pytorch_tanh"},
        {"hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 3,
         "hidden_act": "gelu_new"}, 32, torch.bfloat16, tokenizer="json")
    names = sorted(state)
    half = len(names) // 2
    files = {"model-00001-of-00002.safetensors": names[:half], "model-00002-of-00002.safetensors": names[half:]}
    index = {"metadata": {"total_size": sum(t.numel() * 2 for t in state.values())}, "weight_map": {}}
    for file, part in files.items():
        save_file({n: state[n] for n in part}, folder / file, metadata={"format": "pt"})
        index["weight_map"] |= {n: file for n in part}
    dump(folder / "model.safetensors.index.json", index)
    side = 56
    dump(folder / "processor_config.json",
         {"processor_class": "CLIPProcessor", "image_processor": {"size": {"shortest_edge": side}, "crop_size": {
             "height": side, "width": side}, "do_convert_rgb": True, "rescale_factor": 1 / 255,
             "image_processor_type": "CLIPImageProcessor"}})
    finish(folder, model, hf_goldens(model, pixels, ids), pixels, ids, model.logit_scale.detach())


def hf_legacy_bin():
    """What openai/clip-* have been: pytorch_model.bin with position_ids, text_config_dict, end token "2"."""
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "eos_token_id": 2,
            "bos_token_id": 0, "pad_token_id": 1, "max_position_embeddings": 20}
    vocab = write_tokenizer(fresh("hf_legacy_bin"), "files")[1]
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 28,
              "patch_size": 14}
    folder, model, state, pixels, ids = hf_model(
        "hf_legacy_bin", 4, {"hidden_size": 9999}, text, 16, torch.float16,
        top={"text_config_dict": text | {"vocab_size": vocab}, "vision_config_dict": vision}, keep_norms=True)
    state["text_model.embeddings.position_ids"] = torch.arange(20).expand((1, -1))
    state["vision_model.embeddings.position_ids"] = torch.arange(5).expand((1, -1))
    torch.save(state, folder / "pytorch_model.bin")
    finish(folder, model, hf_goldens(model, pixels, ids), pixels, ids, model.logit_scale.detach())


def openclip_model(name, seed, config, dtype, keep_norms=False):
    folder = fresh(name)
    tok, vocab = write_tokenizer(folder, "files")
    config["model_cfg"]["text_cfg"] |= {"vocab_size": vocab, "context_length": 20}
    dump(folder / "open_clip_config.json", config)
    model_cfg = json.loads(json.dumps(config["model_cfg"]))
    kind = open_clip.model.CustomTextCLIP if model_cfg.pop("custom_text", False) else open_clip.CLIP
    model = kind(**model_cfg)
    randomise(model, seed)
    state = round_to(model, dtype, keep_norms)
    ids = [tok(t, truncation=True)["input_ids"] for t in TEXTS]
    pixels = make_pixels(2, model_cfg["vision_cfg"]["image_size"], seed)
    return folder, model, state, pixels, ids


def openclip_gelu():
    folder, model, state, pixels, ids = openclip_model(
        "openclip_gelu", 5,
        {"model_cfg": {"embed_dim": 24,
                       "vision_cfg": {"image_size": 28, "layers": 2, "width": 40, "head_width": 20, "patch_size": 7,
                                      "mlp_ratio": 1.6},
                       "text_cfg": {"width": 32, "heads": 2, "layers": 2, "mlp_ratio": 2.0}},
         "preprocess_cfg": {"mean": MEAN, "std": STD}}, torch.float32)
    save_file(state, folder / "open_clip_model.safetensors")
    finish(folder, model, openclip_goldens(model, pixels, ids), pixels, ids, model.logit_scale.detach())


def openclip_quickgelu_bin():
    """QuickGELU, the text tower under "text.", saved as a training checkpoint: float16 with float32 norms, "module."."""
    folder, model, state, pixels, ids = openclip_model(
        "openclip_quickgelu_bin", 6,
        {"model_cfg": {"embed_dim": 20, "quick_gelu": True, "custom_text": True,
                       "vision_cfg": {"image_size": 28, "layers": 2, "width": 32, "head_width": 16, "patch_size": 14},
                       "text_cfg": {"width": 32, "heads": 4, "layers": 2, "norm_kwargs": {"eps": 1e-6}}},
         "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bilinear", "resize_mode": "squash"}},
        torch.float16, keep_norms=True)
    torch.save({"state_dict": {"module." + n: t for n, t in state.items()}, "epoch": 3, "name": "tiny"},
               folder / "open_clip_pytorch_model.bin")
    finish(folder, model, openclip_goldens(model, pixels, ids), pixels, ids, model.logit_scale.detach())


ALL = [hf_quickgelu, hf_gelu_head80, hf_bf16_sharded, hf_legacy_bin, openclip_gelu, openclip_quickgelu_bin]
if __name__ == "__main__":
    torch.set_num_threads(1)
    for make in ALL:
        if len(sys.argv) < 2 or make.__name__ in sys.argv[1:]:
            make()
