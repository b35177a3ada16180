#!/usr/bin/env python3
"""Tandem in int8 and its eight-bit and bf16 peers on this processor, taking turns in one run.

usage: compare_int8.py FORWARD_LOOP WORKDIR [--threads N] [--result FILE.json] [--date YYYY-MM-DD] [--only WORDS]

FORWARD_LOOP is build's bench/tandem_forward_loop. The model, the pixels and the comparison with fp32 are those of
cpu_peers.py, whose flags these are. Peers: ONNX Runtime in int8 (quantize_dynamic, per channel, matrix products only:
its convolutions in eight bits are slower than in float32), OpenVINO in bf16, and Tandem in bf16. --only: image1,image32.
Needs torch, transformers, onnx, onnxscript, onnxruntime, openvino and safetensors; what is missing is left out, aloud.
"""
import json
import os
import statistics
import sys

import cpu_peers
import numpy as np
import torch
from cpu_peers import Peer, Tandem, Vision, args

BARS = {"onnxruntime int8": 1.4, "openvino bf16": 1.6}
ROUNDS = {1: 25, 32: 9}


def quantised(module):
    """ONNX Runtime's own int8 of the vision tower; returns a file's path."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    plain, path = f"{args.workdir}/image-17.onnx", f"{args.workdir}/image-int8.onnx"
    if not os.path.exists(path):
        torch.onnx.export(module, (torch.zeros(2, 3, 224, 224),), plain, input_names=["x"], output_names=["y"],
                          dynamic_axes={"x": {0: "batch"}}, opset_version=17, dynamo=False)
        quantize_dynamic(plain, path, per_channel=True, weight_type=QuantType.QInt8,
                         op_types_to_quantize=["MatMul", "Gemm"])
    return path


def contestants(batch, model, have):
    pixels = np.random.default_rng(batch).integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
    x = ((pixels / 255.0 - cpu_peers.MEAN) / cpu_peers.STD).transpose(0, 3, 1, 2).astype(np.float32).copy()
    module, found = Vision(model).eval(), {}

    def add(name, make):
        try:
            found[name] = make()
        except Exception as e:  # a peer that cannot do it takes no part
            print(f"# {name} takes no part: {str(e).splitlines()[0][:160]}", flush=True)

    want = module(torch.from_numpy(x)).numpy()
    if "onnxruntime" in have:
        add("onnxruntime int8", lambda: Peer(cpu_peers.onnx_runtime(quantised(module), x)))
    if "openvino" in have:
        path = cpu_peers.export(module, torch.from_numpy(x)[:2].repeat(2, 1, 1, 1), "image")
        add("openvino bf16", lambda: Peer(cpu_peers.openvino(path, x, "bf16")))
    for precision in ("bf16", "int8"):
        add("tandem " + precision, lambda p=precision: Tandem("image", batch, p, pixels))
    return found, want


def race(batch, model, have):
    """Name -> (median milliseconds, least cosine to transformers in fp32)."""
    entries, want = contestants(batch, model, have)
    cosines = {}
    for name, e in entries.items():
        got = e.vectors()
        got = got / np.linalg.norm(got, axis=1, keepdims=True)
        cosines[name] = float((got * want).sum(1).min())
        e.run()
    times = {name: [] for name in entries}
    for _ in range(args.runs or ROUNDS[batch]):
        for name, e in entries.items():
            times[name].append(e.run())
    for e in entries.values():
        e.close()
    return {name: (statistics.median(t), cosines[name]) for name, t in times.items()}


def main():
    have = cpu_peers.versions()
    model = cpu_peers.make_model()
    rows = []
    for batch in (1, 32):
        if args.only and f"image{batch}" not in args.only.split(","):
            continue
        medians = race(batch, model, have)
        for name, (ms, cosine) in sorted(medians.items(), key=lambda entry: entry[1][0]):
            print(json.dumps(dict(batch=batch, engine=name, ms=round(ms, 2), per_second=round(batch * 1e3 / ms, 1),
                                  least_cosine=round(cosine, 6))), flush=True)
        ours = medians["tandem int8"][0]
        per_second = {name: round(batch * 1e3 / ms, 1) for name, (ms, _) in medians.items()}
        mine = {name: per_second.pop(name) for name in list(per_second) if name.startswith("tandem")}
        ratios = {name: round(medians[name][0] / ours, 3) for name in BARS if name in medians}
        rows.append({"what": f"ViT-B/32 images, batch {batch}, int8", "unit": "images/s", "better": "higher",
                     "tandem": mine["tandem int8"], "tandem_bf16": mine["tandem bf16"], "peers": per_second,
                     "least_cosine_to_fp32": {name: round(cosine, 6) for name, (_, cosine) in medians.items()},
                     "readme": True, "ratios": ratios, "ok": all(ratios[name] >= BARS[name] for name in ratios)})
        print(f"# batch {batch}: {ratios}, wanted {BARS}", flush=True)
    if args.result:
        with open("/proc/cpuinfo") as f:
            name = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "x86-64")
        with open(args.result, "w") as f:
            json.dump({"machine": f"{name}, {args.threads} cores", "date": args.date,
                       "command": f"bench/compare_int8.py build/bench/tandem_forward_loop WORKDIR --threads {args.threads}",
                       "versions": have, "bars": BARS, "comparisons": rows}, f, indent=1)
            f.write("\n")
    return 0 if all(row["ok"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
