#!/usr/bin/env python3
"""Process start to first vector, and peak resident memory, for ViT-B/32: Tandem against transformers.

usage: startup.py [--tandem build/tandem] [--runs 5] [--work DIR] [--output FILE] [--machine NAME]
Needs torch and transformers (the peer); makes a ViT-B/32 checkpoint with random weights in --work. Runs are
interleaved, figures are medians; every process embeds the same picture from a file.
"""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEER = """
import sys
from PIL import Image
import torch
from transformers import CLIPImageProcessor, CLIPModel
model = CLIPModel.from_pretrained(sys.argv[1]).eval()
processor = CLIPImageProcessor.from_pretrained(sys.argv[1])
with torch.inference_mode():
    pixels = processor(Image.open(sys.argv[2]), return_tensors="pt")["pixel_values"]
    v = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
print((v / v.norm()).tolist()[0][:4])
"""


INPUTS = """
import sys
import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel
torch.manual_seed(0)
CLIPModel(CLIPConfig(text_config=dict(eos_token_id=49407, bos_token_id=49406))).save_pretrained(sys.argv[1])
CLIPImageProcessor().save_pretrained(sys.argv[1])
pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
Image.fromarray(pixels).save(sys.argv[2])
"""


def run(command):
    """Seconds and peak resident bytes of a process; its output is discarded, a failure stops everything.

    A child's peak begins with this process's own size, so nothing large is imported here.
    """
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status != 0:
        sys.exit(f"{command[0]} failed: {err.decode()[-500:]}")
    return seconds, usage.ru_maxrss * 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tandem", default="build/tandem")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", default=None)
    parser.add_argument("--output", default=None)
    parser.add_argument("--machine", default="this machine", help="what the result calls it")
    a = parser.parse_args()
    work = Path(a.work or tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    picture = work / "picture.png"
    if not picture.exists():
        run([sys.executable, "-c", INPUTS, str(work), str(picture)])
    weights = (work / "model.safetensors").stat().st_size
    tandem = [a.tandem, "embed", "--model", str(work), "--device", "cpu", "--images", str(picture), "--quiet"]
    commands = {
        "tandem fp32": tandem + ["--precision", "fp32"],
        "tandem bf16": tandem + ["--precision", "bf16"],
        "transformers fp32": [sys.executable, "-c", PEER, str(work), str(picture)],
    }
    seconds, memory = {n: [] for n in commands}, {n: [] for n in commands}
    for i in range(a.runs + 1):  # the first round only fills the file cache
        for name, command in commands.items():
            s, m = run(command)
            if i > 0:
                seconds[name].append(s)
                memory[name].append(m)
    rows = {n: {"seconds": round(statistics.median(seconds[n]), 3), "peak_bytes": int(statistics.median(memory[n]))}
            for n in commands}
    def comparison(what, unit, key, scale, readme):
        peer = rows["transformers fp32"][key] * scale
        return {"what": f"ViT-B/32, {what}", "unit": unit, "better": "lower",
                "tandem": round(rows["tandem fp32"][key] * scale, 3), "peers": {"transformers fp32": round(peer, 3)},
                "readme": readme}

    result = {
        "machine": a.machine, "date": str(datetime.date.today()),
        "command": "bench/startup.py --tandem build/tandem", "weights_fp32_bytes": weights, "rows": rows,
        "peak_allowed_bytes_fp32": int(1.2 * weights + 300e6), "peak_allowed_bytes_bf16": int(0.6 * weights + 300e6),
        "comparisons": [
            comparison("process start to first image vector, fp32", "s", "seconds", 1, True),
            comparison("peak resident memory of that, fp32", "MB", "peak_bytes", 1e-6, True),
        ],
    }
    print(json.dumps(result, indent=1))
    if a.output:
        Path(a.output).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
