#!/usr/bin/env python3
"""Does the emoji model give the same labels in fp16, int8 or fp8 as in fp32, on the whole emoji test set?

    python3 bench/emoji_labels.py build/tandem --out bench/results [--device cuda:0] [--precision fp16] [--per-split N]

Makes the labelled test set (tools/train_emoji/make_testset.py, 20,570 pictures from one seed), embeds pictures and names
with `tandem embed` in both precisions on the device, and takes of every picture the name with the largest cosine, in
float64. Labels that differ are counted; one is a tie where fp32 itself sets the two names less than --tie apart, which
at CLIP's largest scale, 100, is a hundredth of a probability's logarithm. Names that draw the same picture count as one
label. Writes OUT/gpu-emoji.json, on a processor OUT/emoji-int8.json; fails where an item is missing, or, in sixteen bits,
where a label differs that is no tie. In eight bits labels do differ: it fails where more right labels are lost than LOST,
or where pictures' cosines to fp32 are below MEAN or LEAST.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import gpu_machine
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOST = {"int8": 0.003, "fp8": 0.002}  # of all labels
MEAN, LEAST = 0.997, 0.985


def embed(options, precision, work, test, names):
    """(pictures, names) as unit rows in float64, in the order of labels.jsonl and names.txt."""
    out = work / f"{precision}.npy"
    command = [options.program, "embed", "--model", str(ROOT / "models/emoji"), "--device", options.device, "--precision",
               precision, "--images", str(test), "--texts", str(names), "--output", str(out), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout)[-600:]}")
    rows = np.load(out).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    pictures, texts = {}, []
    for line in pathlib.Path(f"{out}.items.jsonl").read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        if item["kind"] == "image":
            pictures[item["input"]] = rows[item["row"]]
        else:
            texts.append(rows[item["row"]])
    return pictures, np.array(texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--per-split", type=int, help="pictures a split; default: all 1,870")
    parser.add_argument("--tie", type=float, default=1e-4, help="difference of two cosines in fp32")
    parser.add_argument("--out", default=".")
    options = parser.parse_args()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        work, test = pathlib.Path(folder), pathlib.Path(folder) / "test"
        subprocess.run([sys.executable, str(ROOT / "tools/train_emoji/make_testset.py"), str(test), "--source", "sheet"]
                       + (["--per-split", str(options.per_split)] if options.per_split else []), check=True)
        labels = [json.loads(line) for line in (test / "labels.jsonl").read_text(encoding="utf-8").splitlines()]
        scores = {}
        for precision in ("fp32", options.precision):
            pictures, texts = embed(options, precision, work, test, test / "names.txt")
            image = np.array([pictures[str(test / label["file"])] for label in labels])  # KeyError: one was lost
            scores[precision] = image, texts
    (image, texts), (other_image, other_texts) = scores["fp32"], scores[options.precision]
    same, other = image @ texts.T, other_image @ other_texts.T
    first, second = same.argmax(1), other.argmax(1)
    about = json.loads((ROOT / "models/emoji/names.json").read_text(encoding="utf-8"))["emoji"]
    drawing = np.array([entry["class"] for entry in about])
    rows = np.arange(len(labels))
    gap = same[rows, first] - same[rows, second]
    differ = drawing[first] != drawing[second]
    ties = differ & (gap <= options.tie)
    right = [np.mean([best in label["accepted"] for best, label in zip(chosen, labels)]) for chosen in (first, second)]
    result = {
        "kind": "emoji", "machine": gpu_machine.facts(options.device),
        "command": f"bench/emoji_labels.py build/tandem --device {options.device} --precision {options.precision}",
        "pictures": len(labels), "names": len(texts), "precision": options.precision, "tie": options.tie,
        "different": int((differ & ~ties).sum()), "ties": int(ties.sum()),
        "largest_gap_of_a_difference": float(gap[differ].max()) if differ.any() else 0.0,
        "top1_fp32": float(right[0]), f"top1_{options.precision}": float(right[1]),
        "mean_cosine_pictures": float((image * other_image).sum(1).mean()),
        "least_cosine_pictures": float((image * other_image).sum(1).min()),
        "least_cosine_names": float((texts * other_texts).sum(1).min()),
        "examples": [{"file": labels[i]["file"], "fp32": about[first[i]]["name"], options.precision: about[second[i]]["name"],
                      "gap": float(gap[i])} for i in np.flatnonzero(differ)[:20]]}
    if options.precision in LOST:
        result["ok"] = bool(right[0] - right[1] <= LOST[options.precision] and result["mean_cosine_pictures"] >= MEAN
                            and result["least_cosine_pictures"] >= LEAST)
    else:
        result["ok"] = result["different"] == 0 and result["least_cosine_pictures"] >= 0.9999
    os.makedirs(options.out, exist_ok=True)
    name = "gpu-emoji" if options.device.startswith("cuda") else f"emoji-{options.precision}"
    with open(f"{options.out}/{name}.json", "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1, ensure_ascii=False)
        f.write("\n")
    print({k: v for k, v in result.items() if k not in ("machine", "examples")})
    for example in result["examples"]:
        print(" ", example)
    print(f"{time.perf_counter() - begin:.0f} s")
    sys.exit(not result["ok"])


if __name__ == "__main__":
    main()
