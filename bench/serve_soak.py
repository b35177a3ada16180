#!/usr/bin/env python3
"""A server under load for long: does it answer everything, and does its memory stay where it is?

    python3 bench/serve_soak.py build/tandem [--requests 200000] [--model random:ViT-B-32] [--out FILE.json]

Starts `tandem serve`, warms it up with --warmup-requests of the same kind (pictures of many sizes, --texts of them texts,
1 % corrupt), notes its resident memory, sends --requests, in parts, notes it again after each part, and stops the server
with SIGTERM. Fails when a request was unanswered or wrong, when the mean resident memory of the last quarter of the
parts exceeds that after the warm-up by more than --growth, when descriptors or threads have grown, when /ready is
not 200 at the end, or when the server does not end with 0. Prints one line of JSON last.
"""
import argparse
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


def resident(pid):
    # Counted page by page: VmRSS of /proc/PID/status lags behind by what each core has not yet reported.
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no Rss")


def count(pid, what):
    return len(os.listdir(f"/proc/{pid}/{what}"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--model", default="random:ViT-B-32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--warmup-requests", type=int, default=10_000)
    parser.add_argument("--parts", type=int, default=20)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--texts", type=float, default=0.5)
    parser.add_argument("--corrupt", type=float, default=0.01)
    parser.add_argument("--growth", type=float, default=0.02, help="of resident memory, after the warm-up")
    parser.add_argument("--growth-bytes", type=float, default=0,
                        help="growth that is allowed however small the process: what allocators keep of the largest requests")
    parser.add_argument("--serve", default="", help="more flags for tandem serve, in one word: caches that the warm-up fills, for one")
    parser.add_argument("--out")
    o = parser.parse_args()
    problems, memory = [], []
    sums = {"sent": 0, "right": 0, "refused": 0, "wrong": 0, "unanswered": 0, "right_refusals": 0, "retried": 0}
    with tempfile.TemporaryDirectory() as folder:
        port_file, log = pathlib.Path(folder) / "port", open(pathlib.Path(folder) / "log", "w+")
        server = subprocess.Popen([o.program, "serve", "--model", o.model, "--device", o.device, "--precision", o.precision,
                                   "--port", "0", "--port-file", port_file, *o.serve.split()], stdout=log, stderr=log)
        try:
            end = time.time() + 300
            while True:
                if server.poll() is not None or time.time() > end:
                    log.seek(0)
                    sys.exit(f"the server does not get ready: {log.read()[-1500:]}")
                try:
                    url = f"http://127.0.0.1:{int(port_file.read_text())}"
                    if urllib.request.urlopen(url + "/ready").status == 200:
                        break
                except (OSError, ValueError):
                    time.sleep(0.1)

            def load(requests, seed):
                command = [o.program, "loadtest", url, "--json", "--requests", requests, "--concurrency", o.concurrency,
                           "--texts", o.texts, "--corrupt", o.corrupt, "--seed", seed]
                done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
                report = json.loads(done.stdout.splitlines()[0])
                if done.returncode != 0:
                    problems.append(f"loadtest ended with {done.returncode}: {report['unanswered']}, {report['wrong_examples']}")
                return report

            load(o.warmup_requests, 1)
            files, threads, begin = count(server.pid, "fd"), count(server.pid, "task"), time.time()
            memory.append(resident(server.pid))
            for part in range(o.parts):
                report = load(o.requests // o.parts, part + 2)
                for key in sums:
                    sums[key] += report["requests"][key]
                memory.append(resident(server.pid))
                print(f"part {part + 1} of {o.parts}: {report['requests_per_second']:.0f} requests/s, p99 "
                      f"{report['latency_ms']['p99']:.0f} ms, resident {memory[-1] / 1e6:.1f} MB", flush=True)
            seconds = time.time() - begin
            if count(server.pid, "fd") > files + 2 or count(server.pid, "task") > threads:
                problems.append(f"{files} descriptors and {threads} threads became {count(server.pid, 'fd')} and {count(server.pid, 'task')}")
            if urllib.request.urlopen(url + "/ready").status != 200:
                problems.append("/ready is not 200")
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                code = server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()
                code = "nothing within 60 s"
            if code != 0:
                problems.append(f"the server ended with {code}")
    last = statistics.mean(memory[-max(1, len(memory) // 4):])
    growth = last / memory[0] - 1
    if growth > o.growth and last - memory[0] > o.growth_bytes:
        problems.append(f"resident memory grew by {100 * growth:.1f} %: {memory[0]} to {last:.0f} bytes")
    if sums["unanswered"] or sums["wrong"]:
        problems.append(f"{sums['unanswered']} unanswered, {sums['wrong']} wrong")
    result = {**sums, "seconds": round(seconds, 1), "resident_bytes": memory, "growth": round(growth, 5),
              "growth_allowed": o.growth, "growth_bytes_allowed": o.growth_bytes, "model": o.model, "command": "bench/serve_soak.py " + " ".join(sys.argv[1:]),
              "problems": problems}
    if o.out:
        pathlib.Path(o.out).write_text(json.dumps(result, indent=1) + "\n")
    for problem in problems:
        print(f"FAILED: {problem}")
    print(json.dumps(result))
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
