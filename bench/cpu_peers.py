#!/usr/bin/env python3
"""Tandem and its peers on this processor, taking turns in one run.

usage: cpu_peers.py FORWARD_LOOP WORKDIR [--threads N] [--result FILE.json] [--date YYYY-MM-DD] [--only WORDS]

FORWARD_LOOP is build's bench/tandem_forward_loop. One CLIP ViT-B/32 with random weights is made in WORKDIR in Hugging
Face layout; every engine gets the same pixels (uint8, normalised by each as it does) or token ids, computes unit
vectors, and is compared with transformers in fp32 before it is timed. Medians; ratios hold across machines, times do not.

Texts have 16 tokens. "unpadded" peers get 16 columns, "padded" ones the 77 that CLIP's pipelines fill up to.
Needs torch, transformers, onnx, onnxscript, onnxruntime, openvino and safetensors; what is missing is left out, aloud.
"""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import time

LENGTH, CONTEXT = 16, 77
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("forward_loop")
    p.add_argument("workdir")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--runs", type=int, default=0, help="rounds; 0: 25 for batch 1, 7 for batch 32")
    p.add_argument("--result", help="write a results file here")
    p.add_argument("--date", default=str(datetime.date.today()))
    p.add_argument("--only", default="", help="comma-separated: image1, image32, text1, text32")
    return p.parse_args()


args = parse()
os.environ["OMP_NUM_THREADS"] = str(args.threads)
os.makedirs(args.workdir, exist_ok=True)

import numpy as np  # noqa: E402  (after the thread count is set)
import torch  # noqa: E402
from transformers import CLIPConfig, CLIPModel  # noqa: E402

torch.set_num_threads(args.threads)
torch.set_grad_enabled(False)


class Tandem:
    """The engine in a process of its own, which answers every "run" with its milliseconds."""

    def __init__(self, what, batch, precision, data):
        path = f"{args.workdir}/{what}{batch}.raw"
        data.tofile(path)
        self.output = f"{args.workdir}/{what}{batch}-{precision}.f32"
        self.batch = batch
        self.process = subprocess.Popen(
            [args.forward_loop, "--model", f"{args.workdir}/model", "--what", what, "--batch", str(batch), "--input", path,
             "--precision", precision, "--threads", str(args.threads), "--text-length", str(LENGTH)]
            + (["--vocab", os.environ["TANDEM_VOCAB"]] if "TANDEM_VOCAB" in os.environ else []),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.info = json.loads(self.process.stdout.readline())

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def run(self):
        return float(self.ask("run"))

    def vectors(self):
        self.run()
        assert self.ask("save " + self.output) == "saved"
        return np.fromfile(self.output, dtype=np.float32).reshape(self.batch, -1)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Peer:
    """A function from the shared input to vectors."""

    def __init__(self, function):
        self.function = function

    def run(self):
        before = time.perf_counter()
        self.function()
        return (time.perf_counter() - before) * 1e3

    def vectors(self):
        return np.asarray(self.function(), dtype=np.float32)

    def close(self):
        pass


class Vision(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.tower, self.projection = model.vision_model, model.visual_projection

    def forward(self, x):
        return torch.nn.functional.normalize(self.projection(self.tower(pixel_values=x).pooler_output), dim=-1)


class Text(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.tower, self.projection = model.text_model, model.text_projection

    def forward(self, x):
        return torch.nn.functional.normalize(self.projection(self.tower(input_ids=x).pooler_output), dim=-1)


def make_model():
    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config=dict(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                           image_size=224, patch_size=32),
        text_config=dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=8,
                         eos_token_id=49407, bos_token_id=49406, vocab_size=49408),
        projection_dim=512)
    model = CLIPModel(config).eval()
    if not os.path.exists(args.workdir + "/model/model.safetensors"):
        model.save_pretrained(args.workdir + "/model")
    return model


def export(module, example, name):
    path = f"{args.workdir}/{name}.onnx"
    if not os.path.exists(path):
        dims = {0: torch.export.Dim("batch", min=1, max=512)}
        if name == "text":
            dims[1] = torch.export.Dim("length", min=2, max=CONTEXT)
        torch.onnx.export(module, (example,), path, input_names=["x"], output_names=["y"], dynamic_shapes={"x": dims},
                          dynamo=True, external_data=False)
    return path


def onnx_runtime(path, data):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": data})[0]


def openvino(path, data, precision):
    import openvino as ov
    core = ov.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", {
        "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": args.threads, "PERFORMANCE_HINT": "LATENCY"})
    return lambda: compiled([data])[0]


def versions():
    import importlib.metadata as metadata
    found = {}
    for name in ("torch", "transformers", "onnxruntime", "openvino"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            print(f"# {name} is not installed and takes no part", flush=True)
    return found


def contestants(what, batch, model, have):
    """Name -> contestant. Names of peers say the precision and, for texts, the padding."""
    rng = np.random.default_rng(batch)
    all_of_them = {}

    def add(name, make):
        try:
            all_of_them[name] = make()
        except Exception as e:  # a peer that cannot do it takes no part
            print(f"# {name} takes no part: {str(e).splitlines()[0][:160]}", flush=True)

    if what == "image":
        pixels = rng.integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
        x = ((pixels / 255.0 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32).copy()
        inputs, module, shared = {"": x}, Vision(model).eval(), pixels
    else:
        ids = rng.integers(1, 49000, (batch, LENGTH), dtype=np.int64)
        ids[:, 0], ids[:, -1] = 49406, 49407
        padded = np.full((batch, CONTEXT), 49407, dtype=np.int64)
        padded[:, :LENGTH] = ids
        inputs, module, shared = {" unpadded": ids, " padded": padded}, Text(model).eval(), ids.astype(np.int32)
    half = None
    for suffix, x in inputs.items():
        tensor = torch.from_numpy(x)
        add("transformers fp32" + suffix, lambda t=tensor: Peer(lambda: module(t).numpy()))
        if what == "image":
            half = type(module)(CLIPModel(model.config)).eval()
            half.load_state_dict(module.state_dict())
            half = half.to(torch.bfloat16)
            add("transformers bf16" + suffix,
                lambda t=tensor.to(torch.bfloat16), h=half: Peer(lambda: h(t).float().numpy()))
        if "onnxruntime" in have or "openvino" in have:
            path = export(module, tensor[:2].repeat(2, *[1] * (tensor.dim() - 1)), what)
        if "onnxruntime" in have:
            add("onnxruntime fp32" + suffix, lambda x=x: Peer(onnx_runtime(path, x)))
        if "openvino" in have:
            for precision in ("f32", "bf16"):
                add(f"openvino {precision.replace('f32', 'fp32')}{suffix}".replace("bfp32", "bf16"),
                    lambda x=x, p=precision: Peer(openvino(path, x, p)))
    for precision in ("fp32", "bf16"):
        add("tandem " + precision, lambda p=precision: Tandem(what, batch, p, shared))
    return all_of_them


def race(what, batch, model, have):
    """Lets everybody compute once for the comparison with fp32, then in turns. Returns name -> median milliseconds."""
    entries = contestants(what, batch, model, have)
    want = next(iter(entries.values())).vectors()
    for name, e in entries.items():
        got = e.vectors()
        got = got / np.linalg.norm(got, axis=1, keepdims=True)
        e.run()
        print(f"# {what} {batch} {name}: min cosine to fp32 {(got * want).sum(1).min():.7f}, "
              f"max difference {np.abs(got - want).max():.1e}", flush=True)
    times = {name: [] for name in entries}
    for _ in range(args.runs or (25 if batch == 1 else 7)):
        for name, e in entries.items():
            times[name].append(e.run())
    for e in entries.values():
        e.close()
    medians = {name: statistics.median(t) for name, t in times.items()}
    for name, ms in sorted(medians.items(), key=lambda x: x[1]):
        row = dict(what=what, batch=batch, engine=name, ms=round(ms, 2), per_second=round(batch * 1e3 / ms, 1),
                   best=round(batch * 1e3 / min(times[name]), 1))
        print(json.dumps(row), flush=True)
    return medians


def comparisons(what, batch, medians):
    """Tandem against the peers of its precision, as a results file wants them."""
    rows = []
    for precision in ("fp32", "bf16"):
        ours = medians.get("tandem " + precision)
        if ours is None:
            continue
        per_second = lambda ms: round(batch * 1e3 / ms, 1)  # noqa: E731
        peers = {n: per_second(ms) for n, ms in medians.items() if precision in n and not n.startswith("tandem")}
        if not peers:
            continue
        best = max((p for n, p in peers.items() if not n.endswith(" padded")), default=max(peers.values()))
        length = f" of {LENGTH} tokens" if what == "text" else ""
        rows.append({"what": f"ViT-B/32 {what}s{length}, batch {batch}, {precision}", "unit": f"{what}s/s",
                     "better": "higher", "tandem": per_second(ours), "peers": peers})
        print(f"# {what} {batch} {precision}: {per_second(ours) / best:.3f} of the best peer", flush=True)
    return rows


def main():
    have = versions()
    model = make_model()
    rows = []
    for what in ("image", "text"):
        for batch in (1, 32):
            if not args.only or what + str(batch) in args.only.split(","):
                rows += comparisons(what, batch, race(what, batch, model, have))
    if args.result:
        with open("/proc/cpuinfo") as f:
            name = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "x86-64")
        result = {"machine": f"{name}, {args.threads} cores", "date": args.date,
                  "command": f"bench/cpu_peers.py build/bench/tandem_forward_loop WORKDIR --threads {args.threads}",
                  "versions": have, "comparisons": rows}
        with open(args.result, "w") as f:
            json.dump(result, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    sys.exit(main())
