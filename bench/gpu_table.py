#!/usr/bin/env python3
"""The Markdown table of what was measured on a GPU, beside the bars that were set, from JSON files.

    python3 bench/gpu_table.py FILE.json… [--out bench/results]

Files come from compare_gpu.py, startup_gpu.py, embed_files.py, emoji_labels.py and make_outlier_models.py --check --json.
Of two that hold the same case the later one counts. Prints the table; with --out writes OUT/gpu.md, and OUT/gpu.json
with every case and, for the README's table, its comparisons.
"""
import argparse
import json
import os

# (model, case): (bar, goal) as ratios of speed to the best peer; batch 1 is set as a part of the peer's time.
SPEED = {("L-14-336", "image 256"): (1.15, 1.3), ("H-14", "image 256"): (1.2, 1.4), ("B-32", "image 256"): (1.6, 2.0),
         ("L-14-336", "both 16"): (1.25, 1.4), ("L-14-336", "tf32 64"): (1.3, None),
         ("L-14-336", "fp8 image 256"): (1.8, 2.1), ("H-14", "fp8 image 256"): (1.85, 2.2),
         ("B-32", "fp8 image 256"): (2.3, 3.0), ("L-14", "text short"): (2.5, 4.0), ("L-14", "text long"): (1.5, 1.7)}
TIME = {("L-14-336", "image 1"): (0.7, 0.55), ("H-14", "image 1"): (0.85, 0.65), ("B-32", "image 1"): (0.45, 0.25)}
EAGER = {"both 16": (16, 18), "fp8 both 16": (21, 25)}  # of L-14-336, against float32
EIGHT_BIT_PEER, EIGHT_BIT_BAR = "torch fp8 compile", 1.4  # the others are fp16's
HOST_BAR = {"L-14-336": 0.95, "H-14": 0.95}
START_BAR, START_GOAL, MEMORY_BAR, EMBED_BAR = 0.3, 0.1, 0.6, 0.9
NAMES = {"L-14-336": "L/14@336", "L-14": "L/14", "H-14": "H/14", "B-32": "B/32"}
BASELINE = "torch fp32 eager"


def verdict(ok):
    return "yes" if ok else "**no**"


def row(what, ours, peer, ratio, bar, goal, ok):
    return f"| {what} | {ours} | {peer} | {ratio} | {bar} | {goal or '–'} | {verdict(ok) if ok is not None else '–'} |"


def figure(ms, batch):
    return f"{ms:.3f} ms" if batch < 64 else f"{batch / ms * 1e3:,.0f}/s"


def compare_rows(r):
    """Rows of one case and method of compare_gpu.py."""
    key, batch, ms = (r["model"], r["case"]), r["batch"], r["ms"]
    name = f"{NAMES.get(r['model'], r['model'])} {r['case']}" + (f", {r['method']}" if r["method"] == "burst" else "")
    own_name = f"tandem {r['precision']} --io device"
    own, rows = ms[own_name], []
    peers = {k: v for k, v in ms.items() if k.startswith("torch")}
    best = min((k for k in peers if k not in (BASELINE, EIGHT_BIT_PEER)), key=peers.get, default=None)
    if best:
        peer, ratio = f"{figure(peers[best], batch)} ({best})", peers[best] / own
        if key in SPEED:
            bar, goal = SPEED[key]
            rows.append(row(name, figure(own, batch), peer, f"{ratio:.2f}x", f"≥ {bar}x", goal and f"{goal}x", ratio >= bar))
        elif key in TIME:
            bar, goal = TIME[key]
            rows.append(row(name, figure(own, batch), peer, f"{1 / ratio:.2f}x of the time", f"≤ {bar}x", f"{goal}x",
                            1 / ratio <= bar))
        else:
            rows.append(row(name, figure(own, batch), peer, f"{ratio:.2f}x", "–", None, None))
    else:
        rows.append(row(name, figure(own, batch), "–", "–", "–", None, None))
    if EIGHT_BIT_PEER in peers and key in SPEED:
        ratio = peers[EIGHT_BIT_PEER] / own
        rows.append(row(name, figure(own, batch), f"{figure(peers[EIGHT_BIT_PEER], batch)} ({EIGHT_BIT_PEER})", f"{ratio:.2f}x",
                        f"≥ {EIGHT_BIT_BAR}x", None, ratio >= EIGHT_BIT_BAR))
    if BASELINE in peers and r["model"] == "L-14-336" and r["case"] in EAGER:
        ratio, (bar, goal) = peers[BASELINE] / own, EAGER[r["case"]]
        rows.append(row(name, figure(own, batch), f"{figure(peers[BASELINE], batch)} ({BASELINE})", f"{ratio:.2f}x",
                        f"≥ {bar}x", f"{goal}x", ratio >= bar))
    host = ms.get(f"tandem {r['precision']} --io host")
    if host:
        bar = HOST_BAR.get(r["model"]) if r["case"] == "image 256" else None
        rows.append(row(f"{name}, `--io host` against `--io device`", figure(host, batch), figure(own, batch),
                        f"{own / host:.2f}x", f"≥ {bar}x" if bar else "–", None, own / host >= bar if bar else None))
    taken, peaks = r["memory"].get("tandem_bytes"), {k: v for k, v in r["peer_peak_bytes"].items() if v}
    if taken and peaks and r["method"] == "sustained":
        best = min(peaks, key=peaks.get)
        ratio, bar = taken / peaks[best], MEMORY_BAR if key == ("L-14-336", "image 256") else None
        rows.append(row(f"{name}, peak device memory", f"{taken / 2**30:.2f} GiB", f"{peaks[best] / 2**30:.2f} GiB ({best})",
                        f"{ratio:.2f}x", f"≤ {bar}x" if bar else "–", None, ratio <= bar if bar else None))
    return rows


def accuracy_rows(r):
    return [row(f"{c['model']}, {c['precision']}: least cosine of {c['vectors']} vectors", f"{c['cosine']:.7f}", "–", "–",
                f"≥ {c['allowed']}", None, c["ok"]) for c in r["results"]]


def start_rows(r):
    return [row(f"start, {c['what']}", f"{c['tandem']:.2f} s", f"{c['peer']:.2f} s ({c['peer_name']})",
                f"{c['tandem'] / c['peer']:.2f}x of the time", f"≤ {START_BAR}x", f"{START_GOAL}x",
                c["tandem"] / c["peer"] <= START_BAR) for c in r["results"]]


def embed_rows(r):
    if "ratio" not in r:
        return []
    return [row(f"`tandem embed`, {r['files']:,} JPEGs of 640x480, {r['model']}", f"{r['embed_per_second']:,.0f}/s",
                f"{r['decode_per_second']:,.0f}/s decoding on {r['cores']} cores; {r['bench_per_second']:,.0f}/s `bench --io host`",
                f"{r['ratio']:.2f}x of the less", f"≥ {EMBED_BAR}x", None, r["ok"])]


def emoji_rows(r):
    return [row(f"emoji test set, {r['pictures']:,} pictures: labels of {r['precision']} other than those of fp32, ties apart",
                str(r["different"]), f"{r['ties']} ties", "–", "0", None, r["ok"])]


def read(paths):
    """[(file's content)], and the latest result of every case of compare_gpu.py."""
    files, cases = [], {}
    for path in paths:
        with open(path) as f:
            content = json.load(f)
        files.append(content)
        if content.get("kind") == "compare":
            for r in content["results"]:
                cases[r["model"], r["case"], r["method"]] = r
    return files, cases


def markdown(paths):
    files, cases = read(paths)
    lines = ["| what | Tandem | peer, same run | ratio | bar | goal | met |", "|---|---|---|---|---|---|---|"]
    for _, r in sorted(cases.items()):
        lines += compare_rows(r)
    for kind, rows in (("start", start_rows), ("embed", embed_rows), ("accuracy", accuracy_rows), ("emoji", emoji_rows)):
        for content in files:
            if content.get("kind") == kind:
                lines += rows(content)
    if cases:
        lines += ["", "Vectors of the timed runs against float32:", "",
                  "| case | vectors | least cosine | allowed | between inputs | clock, power (Tandem) |", "|---|---|---|---|---|---|"]
        for _, r in sorted(cases.items()):
            clock = r["clocks"].get(f"tandem {r['precision']} --io device") or {}
            lines.append(f"| {NAMES.get(r['model'], r['model'])} {r['case']}, {r['method']} | {r['vectors']} | "
                         f"{r['least_cosine']:.7f} | {r['least_cosine_allowed']} | {r['cosine_between_inputs'] or 0:.4f} | "
                         + (f"{clock['sm_mhz']:.0f} MHz, {clock['watts']:.0f} W |" if clock else "– |"))
    seen = []
    for content in files:
        about = "; ".join(f"{k} {v}" for k, v in content["machine"].items())
        for line in (f"- {about}", f"- `{content['command']}`", *(f"- FAILED {e}" for e in content.get("errors", []))):
            if line not in seen:
                seen.append(line)
    return "\n".join(lines + [""] + seen) + "\n"


def comparisons(files, cases):
    """Rows for the README's table."""
    out = []
    for (model, case, method), r in sorted(cases.items()):
        own = r["ms"][f"tandem {r['precision']} --io device"]
        peers = {k: v for k, v in r["ms"].items() if k.startswith("torch")}
        if not peers or ((model, case) not in SPEED and (model, case) not in TIME) or (case == "image 1" and method == "burst"):
            continue
        rate = r["batch"] >= 64
        value = (lambda ms, n=r["batch"]: round(n / ms * 1e3)) if rate else (lambda ms: round(ms, 3))
        what = {"image": "images", "text": "texts", "both": "images and texts"}[r["what"]]
        detail = {"text short": ", 6 to 24 tokens", "text long": ", 10 to 77 tokens", "both 16": ", 10 tokens"}.get(case, "")
        out.append({"what": f"ViT-{NAMES.get(model, model)} {what}, batch {r['batch']}{detail}, {r['precision']}, on a GPU",
                    "unit": f"{what}/s" if rate else "ms", "better": "higher" if rate else "lower", "tandem": value(own),
                    "peers": {k: value(v) for k, v in peers.items()}, "readme": True})
    for content in files:
        if content.get("kind") == "start":
            out += [{"what": f"process start to first vector on a GPU, {c['what']}", "unit": "s", "better": "lower",
                     "tandem": round(c["tandem"], 3), "peers": {c["peer_name"]: round(c["peer"], 3)}, "readme": True}
                    for c in content["results"]]
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--out")
    options = parser.parse_args()
    text = markdown(options.files)
    print(text)
    if not options.out:
        return
    files, cases = read(options.files)
    machine = max((content["machine"] for content in files), key=len)  # the one that says most
    said = [machine.get("name"), machine.get("power.limit")]
    said += [f"{word} {machine[key]}" for word, key in (("driver", "driver_version"), ("torch", "torch")) if key in machine]
    os.makedirs(options.out, exist_ok=True)
    with open(f"{options.out}/gpu.md", "w") as f:
        f.write("# On a GPU\n\nMade by `bench/gpu_table.py` from the result files of one machine.\n\n" + text)
    with open(f"{options.out}/gpu.json", "w") as f:
        json.dump({"machine": ", ".join(filter(None, said)),
                   "date": machine["date"], "command": "; ".join(dict.fromkeys(c["command"] for c in files)),
                   "comparisons": comparisons(files, cases), "cases": list(cases.values()),
                   "others": [c for c in files if c.get("kind") != "compare"]}, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
