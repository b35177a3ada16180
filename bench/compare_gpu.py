#!/usr/bin/env python3
"""Tandem and PyTorch on one GPU, taking turns in one run: one model a call.

    python3 bench/compare_gpu.py build/tandem L-14-336 --out bench/results [--cases "image 256,both 16"]

Cases: `image N`, `both N` (texts of 10 tokens), `tf32 N` (images), `fp8 image N`, `fp8 both N`, `text short` and `text
long` (256 texts: lengths 6 to 24 with one in twenty of 77, and 10 to 77; the peer pads to 77). The peers are transformers' CLIPModel: eager float32,
tf32 and fp16 with sdpa attention, fp16 under torch.compile (reduce-overhead, which captures CUDA graphs); for fp8 also the blocks' linear layers in E4M3,
rows' scales found as they come, compiled. Tandem loads
the peer's weights and is given the peer's inputs: distinct random pixels and ids, on the device before anything is timed
(--io device); images in batches of 64 and more are also timed from host memory (--io host, two batches in flight).

Two methods: `burst`, 4 calls unmeasured and the mean of 10 (the method of published tables); `sustained`, --seconds of
load, then --seconds timed, in which a GPU settles at its power limit; the median call counts, with two batches in flight
the mean. Contestants take turns --rounds times, medians count.

The vectors of every timed run are compared with the peer's in true float32; a case whose least cosine is below its bar
counts as failed. Writes OUT/gpu-MODEL.json after every case and a Markdown table beside it; a case that fails is
reported, the others go on, and the exit code is 1.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import gpu_machine
import gpu_peers
import gpu_table
import numpy as np
import torch
from safetensors.numpy import load_file, save_file

COSINE = {"fp32": 0.999999, "tf32": 0.99999, "fp16": 0.9999, "bf16": 0.999, "fp8": 0.985}
FP16 = ["torch fp16 sdpa", "torch fp16 compile"]
DEFAULT_CASES = {"B-32": "image 1,image 256", "H-14": "image 1,image 256", "L-14": "text short,text long",
                 "L-14-336": "image 256,both 16,image 1,tf32 64", "tiny": "image 1,image 64,both 16,tf32 64,text short,text long"}
FAR_BEHIND = 1.25  # times as long as the best peer
POOL_BYTES = 180 << 20  # of distinct pixels: two batches of 256 of the largest images


class Case:
    """What is computed, in which precision, against which peers, timed how."""

    def __init__(self, name):
        eight = name.startswith("fp8 ")
        kind, _, value = name.removeprefix("fp8 ").partition(" ")
        self.name, self.precision, self.peers = name, "fp16", list(FP16)
        if kind == "text" and value in ("short", "long"):
            self.what, self.batch, self.methods = "text", 256, ["sustained"]
        elif kind in ("image", "both", "tf32") and value.isdigit():
            self.what, self.batch = "image" if kind == "tf32" else kind, int(value)
            self.methods = {"both": ["burst"], "tf32": ["sustained"]}.get(kind, ["sustained"])
            if kind == "image" and self.batch < 16:
                self.methods = ["burst", "sustained"]
        else:
            raise ValueError(f"no such case: {name!r}")
        if kind == "tf32":
            self.precision, self.peers = "tf32", ["torch tf32 sdpa"]
        if eight:
            self.precision, self.peers = "fp8", [*self.peers, "torch fp8 compile"]
        if kind == "both":
            self.peers.append("torch fp32 eager")
        self.host = self.what == "image" and self.batch >= 64

    def inputs(self, model, rng):
        """(pixels, ids padded to one length, lengths): several batches, or None for what the case does not read."""
        side = gpu_peers.MODELS[model]["vision_config"]["image_size"]
        pixels = ids = lengths = None
        batches = 10
        if self.what != "text":
            batches = max(1, min(batches, POOL_BYTES // (self.batch * side * side * 3)))
            pixels = rng.integers(0, 256, (batches * self.batch, side, side, 3), dtype=np.uint8)
        count = batches * self.batch
        if self.what != "image":
            if self.name == "text short":
                lengths = rng.integers(6, 25, count)
                lengths[rng.permutation(count)[:count // 20]] = 77
            elif self.name == "text long":
                lengths = rng.integers(10, 78, count)
            else:
                lengths = np.full(count, 10)
            ids = rng.integers(1, 49000, (count, max(lengths.max(), 77 if self.what == "text" else 0)), dtype=np.int32)
            ids[np.arange(ids.shape[1]) >= lengths[:, None] - 1] = gpu_peers.END
            ids[:, 0] = gpu_peers.START
            lengths = lengths.astype(np.int32)
        return pixels, ids, lengths


class Tandem:
    """The program on one case's inputs, a fresh process a run."""

    def __init__(self, options, folder, case, work, want):
        self.options, self.folder, self.case, self.work, self.want = options, folder, case, work, want
        self.least, self.facts = 1.0, {}

    def run(self, seconds, io, extra=()):
        """Milliseconds a batch; remembers the least cosine of the vectors of all runs so far."""
        cuda = self.options.device.startswith("cuda")
        two = io == "host" and seconds > 0
        output = f"{self.work}/output.safetensors"
        command = [self.options.program, "bench", "--model", self.folder, "--device", self.options.device, "--precision",
                   self.case.precision if cuda else "fp32", "--what", self.case.what, "--batch", str(self.case.batch), "--io",
                   io if cuda else "host", "--in-flight", "2" if two else "1", "--input", f"{self.work}/input.safetensors",
                   "--output", output, "--json", *extra]
        if not extra:
            command += ["--min-seconds", str(seconds)] if seconds else ["--warmup", "4", "--runs", "10"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 + 20 * seconds)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout)[-600:]}")
        result = json.loads(done.stdout.strip().splitlines()[-1])
        self.facts[io] = {k: result.get(k) for k in ("device_name", "isa", "device_memory_bytes", "load_seconds", "runs",
                                                        "weight_bytes", "eight_bit_share")}
        self.least = min(self.least, least_cosine(load_file(output), self.want))
        os.remove(output)
        return result["median_ms" if seconds and not two else "mean_ms"]

    def memory(self):
        """What the program says it took of the device, and by how much free memory fell while it ran (context and the
        benchmark's own inputs included)."""
        free, stop = [], threading.Event()

        def look():
            while not stop.is_set():
                free.append(torch.cuda.mem_get_info()[0])
                time.sleep(0.01)

        torch.cuda.synchronize()
        before = torch.cuda.mem_get_info()[0]
        thread = threading.Thread(target=look)
        thread.start()
        try:
            self.run(0, "device", ["--warmup", "1", "--runs", "3"])
        finally:
            stop.set()
            thread.join()
        return {"tandem_bytes": self.facts["device"]["device_memory_bytes"], "tandem_device_fall_bytes": before - min(free)}


def least_cosine(got, want):
    """Over all rows of all outputs; -1 where a row is missing or not finite."""
    least = 1.0
    for name, rows in want.items():
        if name not in got or got[name].shape != tuple(rows.shape):
            return -1.0
        value = torch.nn.functional.cosine_similarity(torch.as_tensor(got[name]).double(), rows).min().item()
        least = min(least, value if value == value else -1.0)
    return least


def between_inputs(want):
    """Mean cosine of neighbouring rows: the nearer to 1, the less a check of the vectors can see."""
    means = [torch.nn.functional.cosine_similarity(v[:-1], v[1:]).mean().item() for v in want.values() if len(v) > 1]
    return max(means, default=None)


def make_peers(options, folder, case, inputs, want, report, kept):
    """The peers that could be made and called, compiled and warm; their memory and vectors are noted in `report`.

    `kept` holds those of the case before: where inputs have the same shape they need not be compiled again.
    """
    device = "cuda" if options.device.startswith("cuda") else "cpu"
    key = (case.what, case.batch)
    if kept.get("key") != key:
        kept.clear()
        torch._dynamo.reset()
        gpu_peers.release(device)
        kept.update(key=key, peers={})
    peers = {}
    for mode in case.peers:
        if options.peers is not None and mode not in options.peers.split(","):
            continue
        begin = time.perf_counter()
        try:
            peer = kept["peers"].get(mode) or gpu_peers.Peer(folder, mode, device)
            peer.take(case.what, *(None if v is None else v[:case.batch] for v in inputs))
            for _ in range(3):  # compiles, then captures, then replays
                vectors = peer.vectors()
            report["peer_cosine"][mode] = least_cosine(vectors, {n: v[:case.batch] for n, v in want.items()})
            report["peer_peak_bytes"][mode] = peer.peak_bytes()
            peers[mode] = kept["peers"][mode] = peer
            print(f"  {mode}: ready after {time.perf_counter() - begin:.1f} s, least cosine {report['peer_cosine'][mode]:.7f}",
                  flush=True)
        except Exception as e:  # one peer less is no reason to lose the others
            report["errors"].append(f"{mode}: {e!r}"[:600])
            print(f"  FAILED {mode}: {e!r}"[:600], flush=True)
    return peers


def take_turns(options, case, method, tandem, peers, watch, report):
    """{contestant: milliseconds of every round}, {contestant: clock and power}.

    A peer that is far behind another one in the first round is not the best, and takes no further turns; the baseline,
    which has a bar of its own, does.
    """
    seconds = options.seconds if method == "sustained" else 0
    own = f"tandem {case.precision} --io device"
    runs = {f"tandem {case.precision} --io {io}": lambda io=io: tandem.run(seconds, io)
            for io in (["device", "host"] if case.host else ["device"])}
    runs.update({name: lambda peer=peer: peer.time(seconds) for name, peer in peers.items()})
    times, clocks = {}, {}
    for _ in range(options.rounds):
        for name, run in list(runs.items()):
            try:
                ms = run()
            except Exception as e:
                if name == own:
                    raise
                report["errors"].append(f"{name}: {e!r}"[:600])
                print(f"  FAILED {name}: {e!r}"[:600], flush=True)
                del runs[name]
                continue
            end = time.perf_counter()
            times.setdefault(name, []).append(ms)
            clocks[name] = watch.between(end - seconds, end) if seconds else {}
        best = min((times[n][0] for n in runs if n in peers), default=0)
        for name in [n for n in runs if n in peers and n != gpu_table.BASELINE and times[n][0] > FAR_BEHIND * best]:
            del runs[name]
    return times, clocks


def measure(options, folder, case, sizes, watch, kept):
    """The results of one case, one for each method."""
    device = "cuda" if options.device.startswith("cuda") else "cpu"
    pixels, ids, lengths = case.inputs(options.model, np.random.default_rng(1))
    want = gpu_peers.reference(folder, device, pixels, ids)
    report = {"errors": [], "peer_cosine": {}, "peer_peak_bytes": {}}
    results = []
    with tempfile.TemporaryDirectory() as work:
        save_file({n: v for n, v in (("pixels", pixels), ("input_ids", ids), ("lengths", lengths)) if v is not None},
                  f"{work}/input.safetensors")
        tandem = Tandem(options, folder, case, work, want)
        memory = tandem.memory() if device == "cuda" and case.host else {}
        if not memory:  # before minutes go into compiling the peers: does it run at all?
            tandem.run(0, "device", ["--warmup", "1", "--runs", "1"])
        peers = make_peers(options, folder, case, (pixels, ids), want, report, kept)
        for method in case.methods:
            times, clocks = take_turns(options, case, method, tandem, peers, watch, report)
            ms = {name: statistics.median(v) for name, v in times.items()}
            own = ms[f"tandem {case.precision} --io device"]
            results.append({
                "model": options.model, "case": case.name, "what": case.what, "batch": case.batch, "method": method,
                "precision": case.precision, "ms": ms, "all_ms": times, "clocks": clocks,
                "ratio": {name: v / own for name, v in ms.items() if name.startswith("torch")},
                "least_cosine": tandem.least, "least_cosine_allowed": COSINE[case.precision],
                "cosine_between_inputs": between_inputs(want), "vectors": sum(len(v) for v in want.values()),
                "memory": {**memory, "peer_text_tower_bytes": sizes["text"]}, "tandem": tandem.facts, **report})
            show(results[-1])
    return results


def show(r):
    print(f"{r['model']} {r['case']} {r['method']}: "
          + ", ".join(f"{k} {v:.3f} ms ({r['batch'] / v * 1e3:.0f}/s)" for k, v in r["ms"].items())
          + "; ratio " + ", ".join(f"{v:.2f}" for v in r["ratio"].values())
          + f"; least cosine {r['least_cosine']:.7f} of {r['vectors']} (between inputs {r['cosine_between_inputs'] or 0:.3f})"
          + (f"; memory {r['memory'].get('tandem_bytes')} of {r['peer_peak_bytes']}" if r["memory"].get("tandem_bytes") else "")
          + ("" if r["least_cosine"] >= r["least_cosine_allowed"] else f" TOO FAR: {r['least_cosine_allowed']} is the bar"),
          flush=True)


def write(options, results, errors, machine):
    os.makedirs(options.out, exist_ok=True)
    path = f"{options.out}/gpu-{options.model.lower()}.json"
    with open(path, "w") as f:
        json.dump({"kind": "compare", "machine": machine, "command": "bench/" + " ".join(
            [os.path.basename(sys.argv[0]), "build/tandem", options.model, "--cases", f'"{options.cases}"']),
            "seconds": options.seconds, "rounds": options.rounds, "errors": errors, "results": results}, f, indent=1)
        f.write("\n")
    with open(path.removesuffix("json") + "md", "w") as f:
        f.write(gpu_table.markdown([path]))
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model", choices=gpu_peers.MODELS)
    parser.add_argument("--out", default=".")
    parser.add_argument("--device", default="cuda:0", help="cpu: a rehearsal, in float32")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", help="only these, by commas; an empty word: none")
    parser.add_argument("--cases", help="by commas; default: all that the model's bars ask for")
    parser.add_argument("--compare-start", action="store_true", help="startup_gpu.py with the same program, too")
    options = parser.parse_args()
    options.cases = options.cases or DEFAULT_CASES[options.model]
    try:
        cases = [Case(name.strip()) for name in options.cases.split(",")]
    except ValueError as e:
        parser.error(str(e))
    machine, watch = gpu_machine.facts(options.device), gpu_machine.Watch(options.device)
    print(f"{machine}", flush=True)
    begin, results, errors, kept = time.perf_counter(), [], [], {}
    with tempfile.TemporaryDirectory() as folder:
        sizes = gpu_peers.save_model(options.model, folder, "cuda" if options.device.startswith("cuda") else "cpu")
        print(f"{options.model}: weights made after {time.perf_counter() - begin:.1f} s", flush=True)
        for case in cases:
            try:
                results += measure(options, folder, case, sizes, watch, kept)
            except Exception as e:
                errors.append(f"{case.name}: {e!r}"[:1000])
                print(f"FAILED {options.model} {case.name}: {e!r}"[:1000], flush=True)
            path = write(options, results, errors, machine)  # what was measured stays if a later case does not end
            print(f"  {time.perf_counter() - begin:.0f} s so far", flush=True)
    watch.stop()
    too_far = [f"{r['case']} {r['method']}" for r in results if r["least_cosine"] < r["least_cosine_allowed"]]
    if too_far:
        print("FAILED vectors too far from float32: " + ", ".join(too_far))
    print(f"wrote {path}")
    failed = bool(errors or too_far or any(r["errors"] for r in results))
    if options.compare_start:
        here = os.path.dirname(os.path.abspath(__file__))
        failed |= subprocess.run([sys.executable, f"{here}/startup_gpu.py", options.program, "--device", options.device,
                                  "--out", options.out]).returncode != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
