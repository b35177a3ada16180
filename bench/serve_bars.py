#!/usr/bin/env python3
"""What a server adds to the engine below it, under load: `tandem serve` against the same binary's bench and decoding, and
against a FastAPI server with transformers where one is given.

    python3 bench/serve_bars.py build/tandem --out bench/results/serve.json [--peer fastapi_clip.py --peer-python PYTHON]
    python3 bench/serve_bars.py build-gpu-bundle/tandem --device cuda:0 --server-cores 8 --out serve-gpu.json

On a processor (--device cpu), every model and precision in turn, --rounds times, medians count:
  throughput   single JPEGs (640x480, distinct, data URIs) at --concurrency 64, against 1 / (1 / bench + 1 / decode), bench
               being a batch of 32 and decode `tandem preprocess` over the same files, both on all cores
  peer         the same requests to the peer, in the same round
  idle         one JPEG at a time: median latency at the client less decoding on one core less a batch of 1
  cached       the same few texts again and again, base64, keep-alive, against GET /health at the same concurrency
  p99          Poisson arrivals at 70 % of the measured throughput, latencies from the intended time, against the median
               latency of a single request to the idle server
On a GPU the server is pinned to --server-cores cores, the load generator to the others:
  pixels       64 decoded pictures (.npy) a request, against `bench --io host`
  files        single JPEGs as raw bodies, against `tandem preprocess` on the server's cores
  p99          as above, of the same single JPEGs
The load generator runs on the same host; its processor time is in the result. Nothing may be unanswered or wrong: that
ends the run. A bar that is missed is written down and is no failure.
"""
import argparse
import contextlib
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import embed_files
import gpu_machine

PEER_MODEL = """
import sys, shutil, torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel
torch.manual_seed(0)
CLIPModel(CLIPConfig()).save_pretrained(sys.argv[1])
CLIPImageProcessor().save_pretrained(sys.argv[1])
for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
    shutil.copy(f"{sys.argv[2]}/{name}", sys.argv[1])
"""


def median(values):
    return statistics.median(values) if values else None


class Setup:
    def __init__(self, options, scratch):
        self.options, self.scratch = options, pathlib.Path(scratch)
        self.program = options.program
        every = sorted(os.sched_getaffinity(0))
        cores = options.server_cores
        self.server_cores = every[:cores] if cores else every
        self.load_cores = every[cores:] if cores and cores < len(every) else every
        self.files = pathlib.Path(options.work or self.scratch / "files")

    def pinned(self, cores, command):
        return ["taskset", "-c", ",".join(map(str, cores)), *map(str, command)]

    def make_files(self):
        self.files.mkdir(parents=True, exist_ok=True)
        done = self.files / f"made-{self.options.files}"
        if not done.exists():
            done.write_text(str(embed_files.make_files(self.files, self.options.files)))
        return float(done.read_text())

    def rows(self, *command, cores=None):
        _, out = embed_files.run(self.pinned(cores or self.server_cores, [self.program, *command]))
        return json.loads(out.splitlines()[-1])

    def bench(self, model, batch, *more):
        return self.rows("bench", *model, "--what", "image", "--batch", batch, "--min-seconds", self.options.seconds / 2, "--json", *more)

    def decode_seconds(self, model, threads=None):
        """Seconds a picture; the process's start is taken off with a run on one file."""
        base = ["preprocess", *model[:2], "--quiet", *(["--threads", threads] if threads else [])]
        cores = self.server_cores[:threads] if threads else self.server_cores
        one = embed_files.run(self.pinned(cores, [self.program, *base, self.files / embed_files.name(0)]))[0]
        every = embed_files.run(self.pinned(cores, [self.program, *base, self.files]))[0]
        return max(1e-9, every - one) / (self.options.files - 1)

    def load(self, url, *more):
        """A report of `tandem loadtest`; a request that was not answered, or wrongly, ends the run."""
        threads = self.options.load_threads
        if "--concurrency" in more:  # no thread without a connection
            threads = min(threads, more[more.index("--concurrency") + 1])
        command = [self.program, "loadtest", url, "--json", "--threads", threads, *more]
        done = subprocess.run(self.pinned(self.load_cores, command), capture_output=True, text=True, timeout=500)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: {(done.stderr + done.stdout)[-1500:]}")
        return json.loads(done.stdout)

    @contextlib.contextmanager
    def started(self, command, url_of, log):
        with open(self.scratch / log, "w+") as out:
            process = subprocess.Popen(self.pinned(self.server_cores, command), stdout=out, stderr=out)
            try:
                end = time.time() + 180
                while True:
                    if process.poll() is not None or time.time() > end:
                        out.seek(0)
                        raise RuntimeError(f"{command[0]} does not get ready: {out.read()[-1500:]}")
                    with contextlib.suppress(OSError, ValueError):
                        url = url_of()
                        if urllib.request.urlopen(url + "/ready", timeout=5).status == 200:
                            break
                    time.sleep(0.2)
                yield url
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()

    def server(self, model):
        port = self.scratch / f"port-{time.monotonic_ns()}"
        command = [self.program, "serve", *model, "--port", 0, "--port-file", port, *self.options.serve.split()]
        return self.started(command, lambda: f"http://127.0.0.1:{int(port.read_text())}", "server.log")

    def peer(self, folder):
        command = [self.options.peer_python, self.options.peer, folder, self.options.peer_port, len(self.server_cores)]
        return self.started(command, lambda: f"http://127.0.0.1:{self.options.peer_port}", "peer.log")


def line(report):
    wanted = ("requests_per_second", "items_per_second", "measured_seconds", "requests", "statuses")
    return {**{k: report[k] for k in wanted}, "latency_ms": report["latency_ms"],
            "generator_cpu_seconds": report["generator"]["cpu_seconds"],
            "latest_dispatch_ms": report["generator"]["latest_dispatch_ms"]}


def bar(name, value, wanted, at_least=True, **more):
    met = None if value is None or wanted is None else (value >= wanted if at_least else value <= wanted)
    print(f"{name}: {'-' if value is None else f'{value:.3f}'} ({'at least' if at_least else 'at most'} {wanted} asked for)"
          f"{'' if met is None else ', met' if met else ', MISSED'}", flush=True)
    return {"what": name, "value": value, "bar": wanted, "at_least": at_least, "met": met, **more}


def on_cpu(setup, result):
    options = setup.options
    data = ["--data", setup.files, "--pictures", options.files]
    cases = [(name, precision, ["--model", name, "--precision", precision, "--device", "cpu"])
             for name in options.models.split(",") for precision in options.precisions.split(",")]
    runs = {case[:2]: {} for case in cases}
    peer_folder = None
    if options.peer:
        peer_folder = setup.scratch / "peer"
        emoji = pathlib.Path(__file__).resolve().parents[1] / "models/emoji"
        embed_files.run([options.peer_python, "-c", PEER_MODEL, peer_folder, emoji])

    def keep(case, key, value):
        runs[case[:2]].setdefault(key, []).append(value)
        print(f"{case[0]} {case[1]} {key}: {value:.3f}", flush=True)

    reports = result["reports"] = []
    peers = []
    for _ in range(options.rounds):
        for case in cases:
            model = case[2]
            keep(case, "bench_32", setup.bench(model, 32)["images_per_second"])
            keep(case, "bench_1_ms", setup.bench(model, 1)["median_ms"])
            keep(case, "decode", 1 / setup.decode_seconds(model))
            keep(case, "decode_1_ms", 1000 * setup.decode_seconds(model, 1))
            with setup.server(model) as url:
                def load(*more, target=""):
                    reports.append(setup.load(url + target, "--warmup", 1, *more))
                    return reports[-1]
                seconds = ["--seconds", options.seconds + 1]
                many = load(*seconds, *data, "--concurrency", 64)
                keep(case, "requests", many["requests_per_second"])
                keep(case, "idle_ms", load(*seconds, *data, "--concurrency", 1)["latency_ms"]["p50"])
                tail = load(*seconds, *data, "--rate", f"{0.7 * many['requests_per_second']:.2f}")
                keep(case, "p99_ms", tail["latency_ms"]["p99"])
                texts = load(*seconds, "--texts", 1, "--repeat", "--concurrency", 16)
                keep(case, "cached", texts["requests_per_second"])
                keep(case, "health", load(*seconds, "--get", "--concurrency", 16, target="/health")["requests_per_second"])
        if peer_folder:
            with setup.peer(peer_folder) as url:
                report = setup.load(url, "--warmup", 1, "--seconds", options.seconds + 1, *data, "--concurrency", 64)
                peers.append(report["requests_per_second"])
                print(f"peer: {peers[-1]:.2f} requests/s", flush=True)
    result["reports"] = [line(r) for r in reports]
    result["runs"] = {" ".join(case): values for case, values in runs.items()}
    result["peer_requests_per_second"] = peers
    bars = result["bars"] = []
    for case in cases:
        m = {key: median(values) for key, values in runs[case[:2]].items()}
        name, precision = case[:2]
        bound = 1 / (1 / m["bench_32"] + 1 / m["decode"])
        title = f"{name} {precision}"
        bars.append(bar(f"{title}: requests/s over 1 / (compute + decode)", m["requests"] / bound, 0.85 if name == "emoji" else 0.9,
                        requests_per_second=m["requests"], bound=bound))
        if peers and name != "emoji":
            bars.append(bar(f"{title}: requests/s over the peer's", m["requests"] / median(peers), {"bf16": 2.6, "fp32": 1.3}.get(precision)))
        extra = m["idle_ms"] - m["decode_1_ms"] - m["bench_1_ms"]
        bars.append(bar(f"{title}: idle overhead, ms", extra, 0.1 * m["bench_1_ms"] + 0.5, at_least=False))
        bars.append(bar(f"{title}: cached texts over /health", m["cached"] / m["health"], 0.5))
        bars.append(bar(f"{title}: p99 at 70 % over a single request", m["p99_ms"] / m["idle_ms"], 9, at_least=False))


def on_gpu(setup, result):
    options = setup.options
    data = ["--data", setup.files, "--pictures", options.files, "--body", "raw"]
    reports = result["reports"] = []
    bars = result["bars"] = []
    runs = result["runs"] = {}

    def keep(title, key, value):
        runs.setdefault(title, {}).setdefault(key, []).append(value)
        print(f"{title} {key}: {value:.3f}", flush=True)

    cases = [(f"{name} {precision}", ["--model", name, "--precision", precision, "--device", options.device])
             for name in options.models.split(",") for precision in options.precisions.split(",")]
    for _ in range(options.rounds):
        for title, model in cases:
            host = setup.bench(model, 256, "--io", "host", "--in-flight", "2")
            keep(title, "bench_host", host["images_per_second"])
            keep(title, "bench_1_ms", setup.bench(model, 1, "--io", "host")["median_ms"])
            keep(title, "decode", 1 / setup.decode_seconds(model))
            with setup.server(model) as url:
                def load(*more):
                    reports.append(line(setup.load(url, "--warmup", 1, "--seconds", options.seconds + 1, *more)))
                    return reports[-1]
                pixels = load("--pixels", "--items", 64, "--pictures", 256, "--concurrency", 32, "--repeat", "--no-check")
                keep(title, "pixels_cached", pixels["items_per_second"])
                keep(title, "pixels", load("--pixels", "--items", 64, "--pictures", 256, "--concurrency", 32)["items_per_second"])
                many = load(*data, "--concurrency", 256)
                keep(title, "files", many["requests_per_second"])
                keep(title, "idle_ms", load(*data, "--concurrency", 1, )["latency_ms"]["p50"])
                keep(title, "p99_ms", load(*data, "--rate", f"{0.7 * many['requests_per_second']:.2f}")["latency_ms"]["p99"])
            keep(title, "decode", 1 / setup.decode_seconds(model))  # again: cores that are shared change their speed
    for title, _ in cases:
        m = {key: median(values) for key, values in runs[title].items()}
        bars.append(bar(f"{title}: 64 decoded pictures a request over bench --io host", m["pixels"] / m["bench_host"], 0.8))
        bars.append(bar(f"{title}: single JPEGs over the decoding of the server's cores", m["files"] / m["decode"], 0.9))
        bars.append(bar(f"{title}: p99 at 70 % over a single request", m["p99_ms"] / m["idle_ms"], 4, at_least=False))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", default="", help="with commas between; default: random:ViT-B-32, on a processor also emoji")
    parser.add_argument("--precisions", default="", help="default: fp32,bf16 on a processor, fp16 on a GPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6, help="of every load")
    parser.add_argument("--files", type=int, default=0, help="default: 400 on a processor, 3000 on a GPU")
    parser.add_argument("--work", help="a folder for the files, which are kept; default: a temporary one")
    parser.add_argument("--server-cores", type=int, default=0, help="the server's; the load gets the others. 0: all for both")
    parser.add_argument("--load-threads", type=int, default=0, help="default: 1 on a processor, 4 on a GPU")
    parser.add_argument("--serve", default="", help="more flags for tandem serve, in one word")
    parser.add_argument("--peer", help="fastapi_clip.py")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--peer-port", type=int, default=17861)
    parser.add_argument("--machine", default="this machine")
    parser.add_argument("--out")
    options = parser.parse_args()
    gpu = options.device != "cpu"
    options.models = options.models or ("random:ViT-B-32" if gpu else "random:ViT-B-32,emoji")
    options.precisions = options.precisions or ("fp16" if gpu else "fp32,bf16")
    options.files = options.files or (3000 if gpu else 400)
    options.load_threads = options.load_threads or (4 if gpu else 1)
    result = {"machine": options.machine, "facts": gpu_machine.facts(options.device), "date": time.strftime("%Y-%m-%d"),
              "command": "bench/serve_bars.py " + " ".join(sys.argv[1:]), "errors": [], "comparisons": []}
    with tempfile.TemporaryDirectory() as scratch:
        setup = Setup(options, scratch)
        try:
            result["mean_file_bytes"] = setup.make_files()
            (on_gpu if gpu else on_cpu)(setup, result)
        except Exception as e:
            result["errors"].append(repr(e)[:2000])
            print(f"FAILED {e!r}"[:2000])
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(bool(result["errors"]))


if __name__ == "__main__":
    main()
