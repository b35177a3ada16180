#!/usr/bin/env python3
"""Base64 of pictures and of vectors: Tandem by each of the processor's instruction sets, and Python's base64.

    python3 bench/base64_bench.py BUILD/src/base/tandem_base64_bench [--out FILE]

100 KB (a photograph) and 4 MB (a large one, or two thousand vectors of 512), one thread, all contestants in turns, the
best time of each: what disturbs only adds to it. Python's b64decode() skips what is no digit, as ours skips line breaks;
its b64encode() is the same function.
"""
import argparse
import base64
import json
import os
import platform
import random
import subprocess
import time

SIZES = {"100 KB": 100_000, "4 MB": 4_000_000}
KINDS = ["decode", "decode, in lines of 76", "encode"]


def best_of(call, size):
    calls = 1 + 1_000_000 // size
    best = float("inf")
    for _ in range(20):
        before = time.process_time_ns()
        for _ in range(calls):
            call()
        best = min(best, (time.process_time_ns() - before) / calls)
    return best


def python_times(data):
    code = base64.b64encode(data)
    lines = b"\r\n".join(code[i:i + 76] for i in range(0, len(code), 76))
    if base64.b64decode(lines) != data:
        raise SystemExit("Python does not skip line breaks")
    return [best_of(call, len(data)) for call in (
        lambda: base64.b64decode(code), lambda: base64.b64decode(lines), lambda: base64.b64encode(data))]


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        return next(line.split(":", 1)[1].strip() for line in f if line.startswith("model name"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"))
    parser.add_argument("--out", default="bench/results/base64.json")
    options = parser.parse_args()
    python = f"Python {platform.python_version()}, base64"
    comparisons = []
    for name, size in SIZES.items():
        data = random.Random(1).randbytes(size)
        best = {}
        with subprocess.Popen([options.program, str(size), "20"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as ours:
            for turn in range(options.rounds):
                ours.stdin.write("go\n")
                ours.stdin.flush()
                rows = {python: python_times(data)} if turn else {}
                while True:
                    kernels, *times = ours.stdout.readline().split()
                    rows[kernels] = [float(t) for t in times]
                    if kernels == "scalar":
                        break
                if not turn:
                    rows[python] = python_times(data)
                for who, times in rows.items():
                    best[who] = [min(a, b) for a, b in zip(times, best.get(who, times))]
            ours.stdin.close()
        fastest = next(iter(best))
        for i, kind in enumerate(KINDS):
            rate = {who: round(size / times[i], 3) for who, times in best.items()}
            comparisons.append({"what": f"base64, {kind}, {name}, one core", "unit": "GB/s of bytes", "better": "higher",
                                "tandem": rate.pop(fastest), "kernels": fastest, "peers": rate,
                                "times the scalar one": round(best["scalar"][i] / best[fastest][i], 1),
                                "times Python's": round(best[python][i] / best[fastest][i], 1)})
            print(comparisons[-1])
    with open(options.out, "w", encoding="utf-8") as f:
        json.dump({"machine": f"{processor()}, {os.cpu_count()} cores; one thread", "date": options.date,
                   "command": "python3 bench/base64_bench.py build/src/base/tandem_base64_bench",
                   "comparisons": comparisons}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
