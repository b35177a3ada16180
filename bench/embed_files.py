#!/usr/bin/env python3
"""`tandem embed` over a folder of distinct JPEGs, against what bounds it: decoding on all cores, and the device.

    python3 bench/embed_files.py build/tandem --out bench/results [--files 50000] [--model random:ViT-B-32]

Makes the files from a seed on all cores (640x480, quality 85 to 90, 40 to 100 kB: blurred colour fields, shapes, film
grain; Pillow), checks by hash that no two are alike, and reads them once so that they are in the page cache. Then it
measures pictures per second, process start included, of
  embed       tandem embed --output FILE.npy, the whole folder
  decode      tandem preprocess: the same decoding, resizing and cropping on all cores, without a model (--decode-files)
  bench       tandem bench --io host: pixels that are decoded already, batches of 256, two in flight
The bar is embed >= 0.9 of the lesser of the other two. Nothing may be lost: as many rows as files, one line for each in
FILE.npy.items.jsonl without an error, and --probes pictures embedded one by one are nearest to their own rows.
Writes OUT/gpu-embed.json.
"""
import argparse
import hashlib
import io
import json
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import gpu_machine
import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT, BAR, COSINE = 640, 480, 0.9, 0.9999
_grain = None


def grain():
    """A field of film grain, made once a process; every picture takes another part of it."""
    global _grain
    if _grain is None:
        _grain = np.random.default_rng(0).normal(0, 1, (2 * HEIGHT, 2 * WIDTH)).astype(np.float32)
    return _grain


def picture(seed):
    """The bytes of one JPEG, from its seed alone."""
    rng = np.random.default_rng([20251121, seed])
    cells = rng.integers(0, 256, (int(rng.integers(3, 12)), int(rng.integers(4, 16)), 3), dtype=np.uint8)
    image = Image.fromarray(cells).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 9))):
        x, y, w, h = (int(v) for v in rng.integers((-60, -60, 20, 20), (WIDTH, HEIGHT, 260, 260)))
        shape = (draw.ellipse, draw.rectangle)[int(rng.integers(2))]
        shape((x, y, x + w, y + h), fill=tuple(int(v) for v in rng.integers(0, 256, 3)))
    top, left = int(rng.integers(HEIGHT)), int(rng.integers(WIDTH))
    noise = (grain()[top:top + HEIGHT, left:left + WIDTH] * float(rng.uniform(3, 6.5))).astype(np.int16)
    pixels = np.clip(np.asarray(image, dtype=np.int16) + noise[..., None], 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=int(rng.integers(85, 91)))
    return stream.getvalue()


def name(index):
    return f"{index // 1000:03d}/{index:06d}.jpg"


def make(job):
    """Files [first, last): their hashes and the sum of their sizes."""
    folder, first, last = job
    hashes, total = [], 0
    for index in range(first, last):
        data = picture(index)
        path = folder / name(index)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        hashes.append(hashlib.sha1(data).digest())
        total += len(data)
    return hashes, total


def make_files(folder, count):
    """Writes them on all cores; returns their mean size. Fails where two are the same."""
    jobs = [(folder, first, min(first + 100, count)) for first in range(0, count, 100)]
    with multiprocessing.get_context("fork").Pool(gpu_machine.cores()) as pool:
        parts = pool.map(make, jobs, chunksize=1)
    if len({h for hashes, _ in parts for h in hashes}) != count:
        raise RuntimeError("two of the files are the same")
    return sum(total for _, total in parts) / count


def run(command, **more):
    """(seconds, standard output); an exit code other than 0 is an error."""
    begin = time.perf_counter()
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=500, **more)
    seconds = time.perf_counter() - begin
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))[:300]} ended with {done.returncode}: {(done.stderr or done.stdout)[-600:]}")
    return seconds, done.stdout


def check_rows(folder, output, count):
    """Unit rows in the order of the files; fails where one is missing, not finite or reported as an error."""
    rows = np.load(output)
    items = [json.loads(line) for line in pathlib.Path(f"{output}.items.jsonl").read_text().splitlines()]
    failed = [item for item in items if "error" in item]
    if failed:
        raise RuntimeError(f"{len(failed)} items failed, the first: {failed[0]}")
    places = {item["input"]: item["row"] for item in items}
    wanted = [str(folder / name(i)) for i in range(count)]
    missing = [w for w in wanted if w not in places]
    if missing or len(items) != count or len(rows) != count or len(set(places.values())) != count:
        raise RuntimeError(f"{len(items)} items and {len(rows)} rows for {count} files; {len(missing)} missing, the first: "
                           f"{missing[:1]}")
    rows = rows[[places[w] for w in wanted]]
    if not np.isfinite(rows).all():
        raise RuntimeError("a vector is not finite")
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def probe(common, folder, rows, count):
    """Least cosine of pictures embedded one by one with their own rows, and how many were nearest to another's."""
    chosen = np.linspace(0, len(rows) - 1, count).astype(int)
    _, out = run([*common, "--batch", "1", "--images", *(folder / name(i) for i in chosen)])
    vectors = np.array([json.loads(line)["embedding"] for line in out.splitlines()], dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    similar = vectors @ rows.T
    return float(similar[np.arange(len(chosen)), chosen].min()), int((similar.argmax(1) != chosen).sum())


def measure(options, result, scratch):
    """Fills `result`; what was measured before a failure stays in it."""
    folder = pathlib.Path(options.work or f"{scratch}/files")
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / f"made-{options.files}"
    if not done.exists():
        begin = time.perf_counter()
        done.write_text(str(make_files(folder, options.files)))
        print(f"{options.files} files made in {time.perf_counter() - begin:.1f} s", flush=True)
    result["mean_file_bytes"] = float(done.read_text())
    for i in range(options.files):
        (folder / name(i)).read_bytes()
    print(f"mean size {result['mean_file_bytes'] / 1000:.1f} kB", flush=True)

    model = ["--model", options.model, "--device", options.device, "--precision", options.precision]
    _, out = run([options.program, "bench", *model, "--what", "image", "--batch", "256" if "cuda" in options.device else "8",
                  "--io", "host", "--in-flight", "2", "--min-seconds", "2", "--json"])
    result["bench_per_second"] = json.loads(out.splitlines()[-1])["images_per_second"]
    print(f"bench --io host: {result['bench_per_second']:.0f}/s", flush=True)
    few = min(options.decode_files or options.files, options.files)
    some = [folder / f"{i:03d}" for i in range((few + 999) // 1000)]
    few = min(1000 * len(some), options.files)
    output = f"{scratch}/vectors.npy"
    embed, decode = result["all_embed"], result["all_decode"] = [], []
    common = [options.program, "embed", *model, "--quiet"]
    result["one_picture_seconds"] = run([*common, "--images", folder / name(0)])[0]
    for _ in range(options.runs):
        embed.append(options.files / run([*common, "--images", folder, "--output", output])[0])
        print(f"embed: {embed[-1]:.0f}/s (one picture: {result['one_picture_seconds']:.2f} s)", flush=True)
        decode.append(few / run([options.program, "preprocess", "--model", options.model, "--quiet", *some])[0])
        print(f"decode: {decode[-1]:.0f}/s", flush=True)
    result.update(embed_per_second=max(embed), decode_per_second=max(decode),
                  ratio=max(embed) / min(max(decode), result["bench_per_second"]))
    rows = check_rows(folder, output, options.files)
    cosine, wrong = probe(common, folder, rows, min(options.probes, options.files))
    result.update(rows=len(rows), probes=options.probes, least_cosine=cosine, probes_nearest_to_another=wrong)
    if cosine < COSINE or wrong > 0:
        raise RuntimeError(f"single pictures: least cosine {cosine:.7f}, {wrong} nearest to another row")
    result["ok"] = result["ratio"] >= BAR
    print(f"{result['ratio']:.3f} of the lesser bound ({BAR} asked for); {len(rows)} rows; {options.probes} single pictures: "
          f"least cosine {cosine:.7f}, all nearest to their own rows")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--files", type=int, default=50000)
    parser.add_argument("--model", default="random:ViT-B-32")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--runs", type=int, default=2, help="of embed and decode; the fastest counts, all are kept")
    parser.add_argument("--decode-files", type=int, help="how many of the files are decoded alone; default: all")
    parser.add_argument("--probes", type=int, default=32)
    parser.add_argument("--work", help="a folder for the files, which are kept and used again; default: a temporary one")
    parser.add_argument("--out", default=".")
    options = parser.parse_args()
    result = {"kind": "embed", "machine": gpu_machine.facts(options.device), "files": options.files, "model": options.model,
              "precision": options.precision, "cores": gpu_machine.cores(), "command":
              f"bench/embed_files.py build/tandem --files {options.files} --model {options.model} --device {options.device}"}
    result.update(errors=[], ok=False)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            measure(options, result, scratch)
        except Exception as e:
            result["errors"].append(repr(e)[:1000])
            print(f"FAILED {e!r}"[:1000])
    os.makedirs(options.out, exist_ok=True)
    with open(f"{options.out}/gpu-embed.json", "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    sys.exit(bool(result["errors"]))


if __name__ == "__main__":
    main()
