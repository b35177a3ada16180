#!/usr/bin/env python3
"""Tandem and PyTorch on one GPU, taking turns in one run: one model a call.

    python3 bench/compare_gpu.py build/tandem L-14-336 --out bench/results

The peers are transformers' CLIPModel with random weights: eager float32, tf32 and fp16 with sdpa attention, and fp16
under torch.compile (reduce-overhead, which captures CUDA graphs). Tandem computes the same published shape from the
same weights: the peer's model is saved as a Hugging Face folder, which Tandem loads. Inputs are distinct random uint8
images for Tandem, distinct random normalised images for the peers, already on the device (--io device); Tandem is also
timed from host memory (--io host).

Two methods: `burst`, 4 calls unmeasured and the mean of 10 (the method of published tables); `sustained`, at least
--seconds of load, then at least --seconds timed, in which a GPU settles at its power limit. Contestants take turns
--rounds times, medians count. Tandem's vectors are compared with those of the peer in float32.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file
from transformers import CLIPConfig, CLIPModel


def shape(width, heads, layers, image, patch, text_width, text_heads, text_layers, dim, act="quick_gelu"):
    vision = dict(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads,
                  image_size=image, patch_size=patch, hidden_act=act)
    text = dict(hidden_size=text_width, intermediate_size=4 * text_width, num_hidden_layers=text_layers,
                num_attention_heads=text_heads, hidden_act=act, bos_token_id=49406, eos_token_id=49407)
    return dict(vision_config=vision, text_config=text, projection_dim=dim)


MODELS = {
    "B-32": shape(768, 12, 12, 224, 32, 512, 8, 12, 512),
    "L-14-336": shape(1024, 16, 24, 336, 14, 768, 12, 12, 768),
    "H-14": shape(1280, 16, 32, 224, 14, 1024, 16, 24, 1024, "gelu"),
}
MODES = {  # name: (attention, type, tf32, compiled)
    "torch fp32 eager": ("eager", torch.float32, False, False),
    "torch tf32 sdpa": ("sdpa", torch.float32, True, False),
    "torch fp16 sdpa": ("sdpa", torch.float16, False, False),
    "torch fp16 compile": ("sdpa", torch.float16, False, True),
}


class Peer:
    """One mode of the peer; calls return milliseconds, with the device synchronised before and after."""

    def __init__(self, folder, mode, side):
        attention, dtype, self.tf32, compiled = MODES[mode]
        self.dtype, self.side = dtype, side
        self.model = CLIPModel.from_pretrained(folder, attn_implementation=attention, dtype=dtype).eval().cuda()
        self.vision, self.both = self.model.get_image_features, self.model
        if compiled:
            torch._dynamo.config.cache_size_limit = 64
            self.vision = torch.compile(self.model.get_image_features, mode="reduce-overhead", dynamic=False)
            self.both = torch.compile(self.model, mode="reduce-overhead", dynamic=False)
        self.inputs = {}

    def call(self, what, batch):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        key = (what, batch)
        if key not in self.inputs:
            images = torch.randn(batch, 3, self.side, self.side, device="cuda", dtype=self.dtype)
            ids = torch.randint(1, 49000, (batch, 10), device="cuda")
            ids[:, 0], ids[:, -1] = 49406, 49407
            self.inputs[key] = (images, ids)
        images, ids = self.inputs[key]
        with torch.inference_mode():
            if what == "both":
                self.both(input_ids=ids, pixel_values=images)
            else:
                self.vision(pixel_values=images)

    def time(self, what, batch, seconds):
        def once():
            self.call(what, batch)
            torch.cuda.synchronize()

        if seconds == 0:
            for _ in range(4):
                once()
            times = []
            for _ in range(10):
                begin = time.perf_counter()
                once()
                times.append(time.perf_counter() - begin)
            return 1e3 * statistics.mean(times)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            once()
        times, begin = [], time.perf_counter()
        while time.perf_counter() < begin + seconds:
            start = time.perf_counter()
            once()
            times.append(time.perf_counter() - start)
        return 1e3 * statistics.median(times)


def tandem(program, folder, precision, what, batch, seconds, io):
    command = [program, "bench", "--model", folder, "--device", "cuda:0", "--precision", precision, "--what",
               what, "--batch", str(batch), "--text-length", "10", "--io", io, "--json"]
    command += ["--min-seconds", str(seconds)] if seconds else ["--warmup", "4", "--runs", "10"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr or done.stdout}")
    result = json.loads(done.stdout.strip().splitlines()[-1])
    return result["median_ms" if seconds else "mean_ms"], result


def check(program, folder, side, batch=8):
    """Least cosine of Tandem's fp16 vectors with the peer's in float32, from the same pixels."""
    pixels = np.random.default_rng(1).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as work:
        save_file({"pixels": pixels}, f"{work}/x.safetensors")
        subprocess.run([program, "bench", "--model", folder, "--device", "cuda:0", "--precision", "fp16", "--what", "image",
                        "--batch", str(batch), "--runs", "1", "--input", f"{work}/x.safetensors", "--output",
                        f"{work}/y.safetensors", "--json"], check=True, capture_output=True)
        got = load_file(f"{work}/y.safetensors")
        got = torch.from_numpy(got["image_embeds"]).double()
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval().cuda()
    with torch.inference_mode():
        want = model.get_image_features(pixel_values=x.cuda())
    want = getattr(want, "pooler_output", want).double().cpu()
    del model
    torch.cuda.empty_cache()
    return torch.nn.functional.cosine_similarity(got, want).min().item()


def write(options, least, results):
    clocks = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit",
                             "--format=csv,noheader"], capture_output=True, text=True).stdout.strip()
    os.makedirs(options.out, exist_ok=True)
    with open(f"{options.out}/gpu-{options.model.lower()}.json", "w") as f:
        json.dump({"machine": torch.cuda.get_device_name(0), "nvidia_smi": clocks, "torch": torch.__version__,
                   "transformers": transformers.__version__,
                   "command": "bench/compare_gpu.py build/tandem " + options.model,
                   "least_cosine_with_float32": least, "results": results}, f, indent=1)
        f.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--out", default=".")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", default="torch fp16 sdpa,torch fp16 compile")
    parser.add_argument("--io", default="device")
    parser.add_argument("--cases", default="image 1,image 256,both 16")
    options = parser.parse_args()
    torch.manual_seed(0)
    config = MODELS[options.model]
    side = config["vision_config"]["image_size"]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        model = CLIPModel(CLIPConfig(**config)).half()
        model.save_pretrained(folder)
        with open(f"{folder}/preprocessor_config.json", "w") as f:
            json.dump({"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}, f)
        del model
        least = check(options.program, folder, side)
        print(f"least cosine with float32: {least:.7f}", flush=True)
        peers = {name: Peer(folder, name, side) for name in options.peers.split(",") if name}
        for case in options.cases.split(","):
            what, batch = case.split()
            batch = int(batch)
            for seconds in ([0] if what == "both" else [options.seconds] if batch > 1 else [0, options.seconds]):
                times, facts = {}, {}
                for _ in range(options.rounds):
                    for io in dict.fromkeys([options.io, "host"]):
                        ms, facts[io] = tandem(options.program, folder, "fp16", what, batch, seconds, io)
                        times.setdefault(f"tandem fp16 --io {io}", []).append(ms)
                    for name, peer in peers.items():
                        times.setdefault(name, []).append(peer.time(what, batch, seconds))
                ms = {name: statistics.median(v) for name, v in times.items()}
                own = ms[f"tandem fp16 --io {options.io}"]
                best = min((v for k, v in ms.items() if k.startswith("torch")), default=None)
                results.append({"model": options.model, "what": what, "batch": batch, "text_length": 10,
                                "method": "sustained" if seconds else "burst", "ms": ms, "all_ms": times,
                                "ratio_to_best_peer": best / own if best else None,
                                "peak_memory_bytes": facts[options.io].get("peak_memory_bytes")})
                print(f"{options.model} {what} b{batch} {results[-1]['method']}: "
                      + ", ".join(f"{k} {v:.3f} ms ({batch / v * 1e3:.0f}/s)" for k, v in ms.items())
                      + (f"; {best / own:.2f}x the best peer" if best else ""), flush=True)
                write(options, least, results)  # what was measured stays if a later case does not end


if __name__ == "__main__":
    main()
