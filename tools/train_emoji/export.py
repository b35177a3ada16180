"""Trained weights → a Hugging Face folder in fp16 that transformers.CLIPModel loads.

python export.py --weights RUN_DIR/result.pt --pack PACK_DIR --output MODEL_DIR
"""

import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file

import model as towers
import vocabulary


def tower_config(shape, kind):
    return {
        "model_type": kind,
        "hidden_size": shape["width"],
        "intermediate_size": 4 * shape["width"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "hidden_act": "quick_gelu",
        "layer_norm_eps": towers.EPSILON,
        "attention_dropout": 0.0,
        "projection_dim": towers.EMBED,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
    }


def config():
    text = tower_config(towers.TEXT, "clip_text_model") | {
        "vocab_size": vocabulary.VOCABULARY,
        "max_position_embeddings": towers.CONTEXT,
        "bos_token_id": vocabulary.START,
        "eos_token_id": vocabulary.END,
        "pad_token_id": vocabulary.END,
    }
    vision = tower_config(towers.VISION, "clip_vision_model") | {
        "image_size": towers.IMAGE_SIDE,
        "patch_size": towers.PATCH,
        "num_channels": 3,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": towers.EMBED,
        "logit_scale_init_value": 2.6592,
        "initializer_factor": 1.0,
        "dtype": "float16",
        "text_config": text,
        "vision_config": vision,
    }


def preprocessing():
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": towers.IMAGE_SIDE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": towers.IMAGE_SIDE, "width": towers.IMAGE_SIDE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(towers.MEAN),
        "image_std": list(towers.STD),
    }


def block_weights(state, source, target, layers):
    """One tower's blocks under transformers' names; the joint query-key-value matrix is cut in three."""
    named = {}
    for layer in range(layers):
        here, there = f"{source}.{layer}", f"{target}.encoder.layers.{layer}"
        for kind in ("weight", "bias"):
            for part, name in zip(state[f"{here}.qkv.{kind}"].chunk(3), ("q_proj", "k_proj", "v_proj")):
                named[f"{there}.self_attn.{name}.{kind}"] = part
            for ours, theirs in (
                ("out", "self_attn.out_proj"),
                ("norm1", "layer_norm1"),
                ("norm2", "layer_norm2"),
                ("fc1", "mlp.fc1"),
                ("fc2", "mlp.fc2"),
            ):
                named[f"{there}.{theirs}.{kind}"] = state[f"{here}.{ours}.{kind}"]
    return named


def weights(state):
    """Our state dict → transformers' names and shapes, float32."""
    width, patch = towers.VISION["width"], towers.PATCH
    named = block_weights(state, "vision", "vision_model", towers.VISION["layers"]) | block_weights(
        state, "text", "text_model", towers.TEXT["layers"]
    )
    named |= {
        "vision_model.embeddings.class_embedding": state["class_token"],
        "vision_model.embeddings.patch_embedding.weight": state["patch.weight"].view(width, 3, patch, patch),
        "vision_model.embeddings.position_embedding.weight": state["image_position"],
        "text_model.embeddings.token_embedding.weight": state["token.weight"],
        "text_model.embeddings.position_embedding.weight": state["text_position"],
        "visual_projection.weight": state["image_projection.weight"],
        "text_projection.weight": state["text_projection.weight"],
        "logit_scale": state["logit_scale"].clamp(max=4.6052),
    }
    for ours, theirs in (
        ("norm_pre", "vision_model.pre_layrnorm"),
        ("norm_post", "vision_model.post_layernorm"),
        ("norm_final", "text_model.final_layer_norm"),
    ):
        for kind in ("weight", "bias"):
            named[f"{theirs}.{kind}"] = state[f"{ours}.{kind}"]
    return named


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, type=pathlib.Path)
    parser.add_argument("--pack", required=True, type=pathlib.Path)
    parser.add_argument("--output", required=True, type=pathlib.Path)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    named = weights(torch.load(options.weights, map_location="cpu"))
    largest = max(float(value.abs().max()) for value in named.values())
    if largest > 60000:
        raise SystemExit(f"a weight of {largest} does not fit fp16")
    save_file(
        {name: value.to(torch.float16).contiguous() for name, value in sorted(named.items())},
        options.output / "model.safetensors",
        metadata={"format": "pt"},
    )
    (options.output / "model.safetensors").chmod(0o644)
    (options.output / "config.json").write_text(json.dumps(config(), indent=2) + "\n")
    (options.output / "preprocessor_config.json").write_text(json.dumps(preprocessing(), indent=2) + "\n")
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(options.pack / name, options.output / name)
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (options.output / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "model_max_length": towers.CONTEXT,
                "do_lower_case": True,
                "errors": "replace",
            }
            | special,
            indent=2,
        )
        + "\n"
    )
    (options.output / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    from transformers import CLIPTokenizer  # only to write tokenizer.json as current transformers reads it

    CLIPTokenizer.from_pretrained(options.output).backend_tokenizer.save(str(options.output / "tokenizer.json"))
    size = (options.output / "model.safetensors").stat().st_size
    print(f"{options.output}: {sum(value.numel() for value in named.values()):,} parameters, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
