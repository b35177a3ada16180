#!/usr/bin/env python3
"""How far every precision of a device is from fp32: what docs/accuracy.md is made of.

    python3 bench/accuracy.py build/tandem --device cpu --out bench/results/accuracy/cpu.json
    python3 bench/accuracy.py build/tandem --device cuda:0 --testset --out bench/results/accuracy/gpu.json

Runs `tandem verify --json` for the emoji model and for random weights in published shapes, in every precision that the
device computes, and keeps the lines with the arguments that gave them. --testset adds the 20,570 pictures of
tools/train_emoji/make_testset.py (Pillow and numpy). Lines that OUT has already, of other models or precisions, stay.
Then tools/make_accuracy.py writes the page.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PRECISIONS = ["tf32", "fp16", "bf16", "int8", "fp8"]
EMOJI = ["--model", "emoji", "--data", "emoji"]
# Pictures by how long one takes on a few cores.
SHAPES = {"ViT-B-32": 64, "ViT-B-16": 32, "ViT-L-14": 16, "ViT-L-14-336": 8, "ViT-H-14": 8, "ViT-bigG-14": 4}


def machine(device):
    if device.startswith("cuda"):
        import gpu_machine

        facts = gpu_machine.facts(device)
        return f"driver {facts.get('driver_version', 'unknown')}, {facts['cores']} cores"
    return f"{platform.machine()}, {os.cpu_count()} cores"


def verify(program, arguments, device, precision, keep):
    """The lines of image and text, or None where the device does not compute the precision."""
    command = [program, "verify", *arguments, "--device", device, "--precision", precision, *keep, "--json", "--quiet"]
    ran = subprocess.run(command, capture_output=True, text=True)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    if ran.returncode != 0:
        error = lines[-1].get("error", {}) if lines else {}
        if error.get("code") == "unsupported":
            return None
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {ran.returncode}: {error or ran.stderr[-400:]}")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS)
    parser.add_argument("--models", nargs="+", default=["emoji", *list(SHAPES)[:-1]], help="emoji and " + ", ".join(SHAPES))
    parser.add_argument("--samples", type=int, help="pictures of random models; default: by their size")
    parser.add_argument("--keep", nargs="*", default=[], help="layers kept back from eight bits")
    parser.add_argument("--testset", action="store_true", help="also the 20,570 labelled emoji pictures")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()
    out = pathlib.Path(options.out)
    entries = json.loads(out.read_text(encoding="utf-8"))["entries"] if out.exists() else []
    keep = [word for pattern in options.keep for word in ("--keep", pattern)]
    with tempfile.TemporaryDirectory() as folder:
        work = []
        for model in options.models:
            if model == "emoji":
                work += [("emoji, drawn", [*EMOJI], True), ("emoji, drawn, every ninth", [*EMOJI, "--samples", "208"], True)]
            else:
                samples = options.samples or SHAPES[model]
                work.append((f"random {model}", ["--model", f"random:{model}", "--data", "random", "--samples", str(samples)],
                             False))
        if options.testset:
            subprocess.run([sys.executable, str(ROOT / "tools/train_emoji/make_testset.py"), folder, "--source", "sheet"],
                           check=True)
            work.append(("emoji, test set", ["--model", "emoji", "--data", folder, "--labels-file", f"{folder}/names.txt"], True))
        for what, arguments, labelled in work:
            for precision in options.precisions:
                lines = verify(options.program, arguments, options.device, precision,
                               keep if precision in ("int8", "fp8") else [])
                if lines is None:
                    continue
                shown = [word.replace(folder, "TESTSET") for word in arguments]
                for line in lines:
                    line["worst"] = line["worst"] and line["worst"].replace(folder, "TESTSET")
                entry = {"what": what, "precision": precision, "arguments": shown, "keep": options.keep,
                         "lines": lines}
                entries = [e for e in entries if (e["what"], e["precision"]) != (what, precision)] + [entry]
                image = lines[0]
                print(what, precision, f"mean {image['mean_cosine']:.6f} worst {image['min_cosine']:.6f}",
                      f"top-1 {image['top1']} of {image['top1_reference']}" if labelled else "", flush=True)
                result = {"machine": machine(options.device), "device_name": lines[0]["device_name"],
                          "isa": lines[0]["isa"], "date": datetime.date.today().isoformat(),
                          "command": f"bench/accuracy.py build/tandem --device {options.device}"
                                     + (" --testset" if options.testset else ""),
                          "entries": entries}
                out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
