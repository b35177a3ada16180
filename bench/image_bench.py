#!/usr/bin/env python3
"""Decode, resize and crop of 640x480 JPEGs on one core: Tandem against Pillow, in one run, taking turns.

    python bench/image_bench.py BUILD/…/tandem_image_bench [--runs 15] [--output bench/results/image.json]

Needs Pillow, numpy and, for the third reference, torch and torchvision. Both sides are pinned to the same core, read
the same bytes from memory and make the same 224x224 crops, which are compared byte for byte; a pass over all pictures
of one side alternates with a pass of the other, and medians of processor time are compared. Three kinds of pictures, because the share
of entropy decoding, which nobody can skip, differs: smooth, photograph-like, and noise.
"""

import argparse
import io
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import PIL
from PIL import Image, features

SIDE = 224


def picture(seed, noise):
    """640x480: structure at several scales, plus noise of that deviation."""
    rng = np.random.default_rng(seed)
    total = np.full((480, 640, 3), 128.0)
    for cells, weight in ((4, 60), (16, 40), (64, 20), (160, 10)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells * 3 // 4, cells, 3), dtype=np.uint8))
        total += (np.asarray(coarse.resize((640, 480), Image.BICUBIC), float) - 128) * weight / 64
    return Image.fromarray(np.clip(total + rng.normal(0, noise, total.shape), 0, 255).astype(np.uint8))


def crop_like_transformers(image):
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    return np.asarray(image)[top : top + SIDE, left : left + SIDE]


def size_of(image):
    width, height = image.size
    if width <= height:
        return SIDE, int(SIDE * height / width)
    return int(SIDE * width / height), SIDE


def pillow(data):
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return crop_like_transformers(image.resize(size_of(image), Image.BICUBIC))


def torchvision_uint8(data):
    import torch
    from torchvision.transforms.v2 import functional as F

    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = size_of(image)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    resized = F.resize(tensor, [height, width], F.InterpolationMode.BICUBIC, antialias=True)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    return resized[:, top : top + SIDE, left : left + SIDE].permute(1, 2, 0).numpy()


def measure(binary, files, data, reference, peer, runs, extra=()):
    with tempfile.NamedTemporaryFile() as out:
        command = [binary, str(runs), reference, str(SIDE), "--write", out.name, *extra, *files]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        isa = child.stdout.readline().strip()
        ours, theirs = [], []
        for _ in range(runs):
            child.stdin.write("\n")
            child.stdin.flush()
            ours.append(float(child.stdout.readline()))
            start = time.process_time()
            crops = [peer(d) for d in data]
            theirs.append((time.process_time() - start) * 1e3 / len(data))
        child.stdin.close()
        child.wait()
        got = np.fromfile(out.name, np.uint8).reshape(len(data), SIDE, SIDE, 3)
    return {
        "isa": isa,
        "tandem_ms": round(statistics.median(ours), 4),
        "peer_ms": round(statistics.median(theirs), 4),
        "ratio": round(statistics.median(theirs) / statistics.median(ours), 3),
        "tandem_min_ms": round(min(ours), 4),
        "peer_min_ms": round(min(theirs), 4),
        "equal_pixels": bool((got == np.stack(crops)).all()),
    }


def comparison(row):
    """A measured row in the form of bench/README.md."""
    what = f"decode + resize + crop, 640x480 JPEG ({row['pictures']}), one core, {row['reference']}, {row['isa']}"
    return {"what": what, "unit": "ms of processor time", "better": "lower", "tandem": row["tandem_ms"],
            "peers": {row["peer"]: row["peer_ms"]},
            "readme": row["pictures"] == "photograph-like" and row["reference"] == "hf" and row["isa"] == "avx512"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--output", default=str(pathlib.Path(__file__).parent / "results" / "image.json"))
    arguments = parser.parse_args()
    core = sorted(os.sched_getaffinity(0))[-1]
    os.sched_setaffinity(0, {core})

    peers = {"hf": ("Pillow", pillow)}
    try:
        import torch

        torch.set_num_threads(1)
        peers["hf-fast"] = ("Pillow + torchvision uint8", torchvision_uint8)
    except ImportError:
        print("torch is missing: hf-fast is not measured")
    results = []
    for kind, noise, quality in (("smooth", 0, 85), ("photograph-like", 6, 80), ("noise", 60, 90)):
        with tempfile.TemporaryDirectory() as folder:
            files, data = [], []
            for seed in range(arguments.pictures):
                file = io.BytesIO()
                picture(seed, noise).save(file, "JPEG", quality=quality)
                data.append(file.getvalue())
                files.append(os.path.join(folder, f"{seed}.jpg"))
                pathlib.Path(files[-1]).write_bytes(data[-1])
            for reference, (name, peer) in peers.items():
                for isa in ((), ("--isa", "avx2")) if reference == "hf" else ((),):
                    row = measure(arguments.binary, files, data, reference, peer, arguments.runs, isa)
                    row = {"pictures": kind, "bytes": sum(map(len, data)) // len(data), "reference": reference,
                           "peer": name, **row}
                    results.append(row)
                    print(json.dumps(row))
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    report = {
        "machine": f"{cpu}, one core, load average {os.getloadavg()[0]:.1f}",
        "date": time.strftime("%Y-%m-%d"),
        "command": "python bench/image_bench.py build/src/image/tandem_image_bench",
        "versions": {"pillow": PIL.__version__, "pillow_libjpeg_turbo": features.version("libjpeg_turbo")},
        "comparisons": [comparison(row) for row in results],
        "details": results,
    }
    pathlib.Path(arguments.output).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
