#!/usr/bin/env python3
"""Process start to first vector on a GPU: Tandem against transformers (fp16, sdpa), every run a fresh process.

    python3 bench/startup_gpu.py build/tandem --out bench/results [--model L-14-336] [--runs 5] [--only file|random]

Two ways to weights: random ones of a published shape (`random:ViT-L-14-336`; transformers draws its own on the GPU) and
a Hugging Face folder of fp16 safetensors in the page cache. Both embed the same picture file, which has the model's size
so that nothing needs resizing; the peer imports only torch, transformers and Pillow, and normalises by hand. The first
round fills the page cache and is not counted; then contestants take turns, medians count. Vectors from the folder are
compared with float32, those of Tandem's random model with its own in fp32. Writes OUT/gpu-start.json.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import gpu_machine

COSINE = 0.9999
MAKE = """
import sys
sys.path.insert(0, sys.argv[1])
import gpu_peers, json, numpy as np
from PIL import Image
name, folder, device = sys.argv[2:5]
gpu_peers.save_model(name, folder, device)
side = gpu_peers.MODELS[name]["vision_config"]["image_size"]
pixels = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
Image.fromarray(pixels[0]).save(folder + "/picture.png")
json.dump(gpu_peers.MODELS[name], open(folder + "/shape.json", "w"))
json.dump(gpu_peers.reference(folder, device, pixels)["image_embeds"][0].tolist(), open(folder + "/want.json", "w"))
"""
PEER = """
import json, sys, time
begin = time.perf_counter()
import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel
imported = time.perf_counter()
source, folder, device = sys.argv[1:4]
dtype = torch.float16 if device == "cuda" else torch.float32
if source == "random":
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = CLIPModel(CLIPConfig(**json.load(open(folder + "/shape.json")), attn_implementation="sdpa")).eval()
else:
    model = CLIPModel.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa").eval().to(device)
loaded = time.perf_counter()
x = torch.from_numpy(np.asarray(Image.open(folder + "/picture.png").convert("RGB")).copy()).to(device)
mean = torch.tensor([0.48145466, 0.4578275, 0.40821073], device=device, dtype=torch.float32)
std = torch.tensor([0.26862954, 0.26130258, 0.27577711], device=device, dtype=torch.float32)
x = ((x.float() / 255 - mean) / std).permute(2, 0, 1)[None].to(dtype)
with torch.inference_mode():
    v = model.visual_projection(model.vision_model(pixel_values=x).pooler_output)[0].float().cpu()
print(json.dumps({"vector": v.tolist(), "import": imported - begin, "load": loaded - imported,
                  "call": time.perf_counter() - loaded}))
"""


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


def run(command):
    """(seconds, last line of output as JSON) of a process from its start to its end."""
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-800:]}")
    return seconds, json.loads(done.stdout.strip().splitlines()[-1])


def compare(what, tandem, peer, want, runs):
    """Turns of the two commands; the medians, all times, and the least cosines with `want` (None: none is known)."""
    times, cosines, parts = {"tandem": [], "peer": []}, {"tandem": 1.0, "peer": 1.0}, []
    for i in range(runs + 1):  # the first round only fills the page cache
        for name, command in (("tandem", tandem), ("peer", peer)):
            seconds, answer = run(command)
            vector = answer["embedding"] if name == "tandem" else answer["vector"]
            if want[name] is not None:
                cosines[name] = min(cosines[name], cosine(vector, want[name]))
            if name == "peer":
                parts.append({k: round(v, 3) for k, v in answer.items() if k != "vector"})
            if i > 0:
                times[name].append(seconds)
    medians = {name: statistics.median(v) for name, v in times.items()}
    print(f"{what}: tandem {medians['tandem']:.3f} s, transformers {medians['peer']:.3f} s ({parts[-1]}): "
          f"{medians['tandem'] / medians['peer']:.3f}x of the time; least cosine {cosines['tandem']:.7f}", flush=True)
    return {"what": what, "tandem": medians["tandem"], "peer": medians["peer"], "peer_name": "transformers fp16 sdpa",
            "all_seconds": times, "peer_parts": parts[-1], "least_cosine": cosines["tandem"],
            "peer_cosine": cosines["peer"], "ok": cosines["tandem"] >= COSINE}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--model", default="L-14-336")
    parser.add_argument("--device", default="cuda:0", help="cpu: a rehearsal, in float32")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=["file", "random"])
    parser.add_argument("--out", default=".")
    options = parser.parse_args()
    cuda = options.device.startswith("cuda")
    here, torch_device = os.path.dirname(os.path.abspath(__file__)), "cuda" if cuda else "cpu"
    results, errors = [], []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", MAKE, here, options.model, folder, torch_device], check=True)
        picture = f"{folder}/picture.png"

        def tandem(model, precision):
            return [options.program, "embed", "--model", model, "--device", options.device, "--precision",
                    precision if cuda else "fp32", "--images", picture, "--quiet"]

        def peer(source):
            return [sys.executable, "-c", PEER, source, folder, torch_device]

        with open(f"{folder}/want.json") as f:
            want = json.load(f)
        random = f"random:ViT-{options.model}"
        for source in ("file", "random"):
            if options.only not in (None, source):
                continue
            try:
                if source == "file":
                    results.append(compare(f"{options.model} from a safetensors file in page cache", tandem(folder, "fp16"),
                                           peer("file"), {"tandem": want, "peer": want}, options.runs))
                else:
                    own = run(tandem(random, "fp32"))[1]["embedding"]
                    results.append(compare(random, tandem(random, "fp16"), peer("random"), {"tandem": own, "peer": None},
                                           options.runs))
            except Exception as e:
                errors.append(f"{source}: {e!r}"[:1000])
                print(f"FAILED {errors[-1]}", flush=True)
            os.makedirs(options.out, exist_ok=True)
            with open(f"{options.out}/gpu-start.json", "w") as f:
                json.dump({"kind": "start", "machine": gpu_machine.facts(options.device),
                           "command": f"bench/startup_gpu.py build/tandem --model {options.model} --runs {options.runs}",
                           "errors": errors, "results": results}, f, indent=1)
                f.write("\n")
    for r in results:
        if not r["ok"]:
            print(f"FAILED {r['what']}: least cosine {r['least_cosine']}")
    sys.exit(bool(errors) or not all(r["ok"] for r in results))


if __name__ == "__main__":
    main()
