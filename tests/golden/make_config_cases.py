#!/usr/bin/env python3
"""Makes tests/golden/config_cases.json: configuration files and what transformers and open_clip make of them.

usage: make_config_cases.py      (needs torch, transformers and open_clip)
"""
import copy
import json
import tempfile
from pathlib import Path

import open_clip
import transformers
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

OUT = Path(__file__).resolve().parent / "config_cases.json"
V, T = "vision_config", "text_config"
HF = {
    "all defaults": {},
    "nothing nested": {"projection_dim": 640, "logit_scale_init_value": 3},
    "null nested": {V: None, T: None},
    "large": {"projection_dim": 768, V: {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
              "num_attention_heads": 16, "patch_size": 14, "image_size": 336, "projection_dim": 11},
              T: {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 12}},
    "eos 2": {T: {"eos_token_id": 2, "bos_token_id": 0}},
    "eos 7": {T: {"eos_token_id": 7, "pad_token_id": None}},
    "gelu": {V: {"hidden_act": "gelu", "layer_norm_eps": 1e-6}, T: {"hidden_act": "gelu_new"}},
    "legacy wins": {V: {"hidden_size": 1280, "num_attention_heads": 16}, "vision_config_dict": {"hidden_size": 1024,
                    "num_attention_heads": 16}, T: {"vocab_size": 100}, "text_config_dict": {"eos_token_id": 2}},
    "legacy resets": {V: {"hidden_size": 1280, "num_attention_heads": 16, "hidden_act": "gelu", "image_size": 56},
                      "vision_config_dict": {"patch_size": 16}},
    "legacy empty": {T: {"hidden_size": 128, "hidden_act": "gelu"}, "text_config_dict": {}},
    "legacy null": {T: {"hidden_size": 128}, "text_config_dict": None, "vision_config_dict": None},
    "other keys": {"torch_dtype": "float16", "initializer_factor": 2.0, V: {"attention_dropout": 0.1, "model_type":
                   "clip_vision_model", "typical_p": 1.0}},
}
PREPROCESS = {
    "defaults": {},
    "old": {"crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True, "size": 224, "resample": 3,
            "feature_extractor_type": "CLIPFeatureExtractor"},
    "dicts": {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "resample": 2},
    "exact": {"size": {"height": 224, "width": 224}, "do_center_crop": False},
    "pair": {"size": [300, 280], "crop_size": 224},
    "exact, larger, then crop": {"size": {"height": 256, "width": 300}},
    "square number": {"size": 224, "default_to_square": True, "do_center_crop": False},
    "no resize": {"do_resize": False},
    "no normalise": {"do_normalize": False},
    "no rescale": {"do_rescale": False},
    "halves": {"image_mean": [0.5, 0.5, 0.5], "image_std": 0.5, "rescale_factor": 0.00784313725490196},
    "as saved": {"do_pad": None, "device": None, "do_convert_rgb": False, "data_format": "channels_first",
                 "input_data_format": None, "image_processor_type": "CLIPImageProcessor", "return_tensors": None},
}
SMALL_V = {"image_size": 28, "layers": 1, "width": 64, "patch_size": 14}
SMALL_T = {"context_length": 9, "vocab_size": 40, "width": 32, "heads": 2, "layers": 1}
OPENCLIP = {
    "plain": ({}, SMALL_V, SMALL_T, {}),
    "quick": ({"quick_gelu": True}, SMALL_V, SMALL_T, {"interpolation": "bilinear"}),
    "custom": ({"custom_text": True}, SMALL_V | {"head_width": 16}, SMALL_T, {"resize_mode": "squash"}),
    "ratio": ({}, SMALL_V | {"mlp_ratio": 4.9231, "head_width": 30}, SMALL_T | {"mlp_ratio": 2.3}, {"mean": [0, 0, 0]}),
    "tanh": ({}, SMALL_V | {"act_kwargs": {"approximate": "tanh"}}, SMALL_T | {"norm_kwargs": {"eps": 1e-6}}, {"size": 999}),
    "eos": ({}, SMALL_V | {"final_ln_after_pool": True, "patch_dropout": 0.5}, SMALL_T | {"pool_type": "eos", "eos_id": 7},
            {"mean": None, "interpolation": None, "unknown": 1}),
    "pairs": ({}, SMALL_V | {"image_size": [28, 28], "patch_size": [14, 14], "output_tokens": False}, SMALL_T, {}),
}


def hf_case(config):
    config = {"model_type": "clip"} | config
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config))
        c = transformers.CLIPConfig.from_pretrained(folder)

    def tower(t):
        return {"width": t.hidden_size, "layers": t.num_hidden_layers, "heads": t.num_attention_heads,
                "mlp": t.intermediate_size, "act": t.hidden_act, "eps": t.layer_norm_eps}

    v, t = c.vision_config, c.text_config
    return {"config": config, "expect": {"embed_dim": c.projection_dim, "logit_scale": c.logit_scale_init_value,
            "vision": tower(v) | {"image": v.image_size, "patch": v.patch_size},
            "text": tower(t) | {"vocab": t.vocab_size, "context": t.max_position_embeddings, "eos": t.eos_token_id}}}


def preprocess_case(config):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "preprocessor_config.json").write_text(json.dumps(config))
        p = transformers.CLIPImageProcessor.from_pretrained(folder)
    size, crop = dict(p.size), dict(p.crop_size)
    size = {k: v for k, v in size.items() if v is not None}
    triple = lambda x: list(x) if isinstance(x, (list, tuple)) else [x] * 3
    mean, std = (triple(p.image_mean), triple(p.image_std)) if p.do_normalize else ([0] * 3, [1] * 3)
    return {"config": config, "expect": {"do_resize": p.do_resize, "size": size, "resample": int(p.resample),
            "do_center_crop": p.do_center_crop, "crop": [crop["height"], crop["width"]], "mean": mean, "std": std,
            "rescale": p.rescale_factor if p.do_rescale else 1}}


def openclip_case(top, vision, text, preprocess):
    cfg = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text} | top
    kwargs = copy.deepcopy(cfg)
    model = (open_clip.model.CustomTextCLIP if kwargs.pop("custom_text", False) else open_clip.CLIP)(**kwargs)
    t = getattr(model, "text", model)

    def tower(blocks):
        b = blocks[0]
        act = b.mlp.gelu
        name = "quick_gelu" if type(act).__name__ == "QuickGELU" else {"none": "gelu", "tanh": "gelu_tanh"}[act.approximate]
        return {"width": b.attn.embed_dim, "layers": len(blocks), "heads": b.attn.num_heads, "mlp": b.mlp.c_fc.out_features,
                "act": name, "eps": b.ln_1.eps}

    p = merge_preprocess_dict(PreprocessCfg(), preprocess)
    return {"config": {"model_cfg": cfg, "preprocess_cfg": preprocess}, "expect": {
        "embed_dim": model.visual.output_dim, "vision": tower(model.visual.transformer.resblocks) | {
            "image": model.visual.image_size[0], "patch": model.visual.patch_size[0]},
        "text": tower(t.transformer.resblocks) | {"vocab": t.vocab_size, "context": t.context_length, "pool": getattr(
            t, "text_pool_type", getattr(t, "pool_type", None)), "eos": getattr(t, "text_eos_id", getattr(t, "eos_id", None))},
        "mean": p["mean"], "std": p["std"], "interpolation": p["interpolation"], "resize_mode": p["resize_mode"]}}


cases = {"made_by": "tests/golden/make_config_cases.py", "transformers": transformers.__version__,
         "open_clip": open_clip.__version__, "huggingface": {n: hf_case(c) for n, c in HF.items()},
         "preprocess": {n: preprocess_case(c) for n, c in PREPROCESS.items()},
         "openclip": {n: openclip_case(*c) for n, c in OPENCLIP.items()}}
OUT.write_text(json.dumps(cases, indent=1, default=list) + "\n")
print(OUT.stat().st_size, "bytes")
