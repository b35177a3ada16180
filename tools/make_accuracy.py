#!/usr/bin/env python3
"""Writes docs/accuracy.md from bench/results/accuracy/*.json, which bench/accuracy.py makes with `tandem verify`.

usage: make_accuracy.py [--check] [ROOT]

With --check nothing is written, and the exit code is 1 when the page is not what the results say.
"""
import json
import pathlib
import sys

HEAD = """# Accuracy

How far each precision is from fp32 on the same device, and what that costs: made by `tools/make_accuracy.py` from
`bench/results/accuracy`, which `bench/accuracy.py` measures with `tandem verify`. For a model and pictures of your own:

```sh
tandem verify --model my-clip --precision int8 --data photos/ --layers
tandem verify --model my-clip --precision bf16 --data photos/ --max-difference 1e-2  # exit 1 beyond: for CI
```

- **cosine** of every vector with the same input's in fp32: the mean, the one that 1 % are at or below, the worst.
- **ranks**: Kendall's tau of the order in which up to 256 texts find all pictures (for texts: pictures find texts), and how
  many of the ten best stay among the ten best.
- **top-1** zero-shot over all 1,870 names, in fp32 and as computed; **lost, won**: pictures that only fp32 has right, and
  that only the other has.
- **in 8 bits**: the share of the blocks' multiply-adds that ran in eight bits.
- *emoji, drawn*: every emoji once on various grounds, drawn by the program (`--data emoji`). *emoji, test set*: the 20,570
  pictures of `tools/train_emoji/make_testset.py`. *random*: published shapes with seeded random weights and pictures of
  noise; these have no outliers as trained weights do, and say how errors add up over depth.
"""


def percent(share):
    return "–" if share is None else f"{100 * share:.2f} %"


def number(value, digits):
    return "–" if value is None else f"{value:.{digits}f}"


def table(entries, kind):
    """The rows of one kind, emoji first, as Markdown; empty where there is none."""
    rows = []
    for entry in sorted(entries, key=lambda e: not e["what"].startswith("emoji")):  # stable: else as measured
        for line in entry["lines"]:
            if line["what"] != kind:
                continue
            cells = [entry["what"], entry["precision"], f"{line['items']:,}", number(line["mean_cosine"], 6),
                     number(line["p01_cosine"], 6), number(line["min_cosine"], 6), number(line["rank_agreement"], 4),
                     percent(line["top10_overlap"])]
            if kind == "image":
                known = line["top1"] is not None
                cells += [f"{percent(line['top1_reference'])} → {percent(line['top1'])}" if known else "–",
                          f"{line['lost']}, {line['won']}" if known else "–"]
            eight = line.get("eight_bit_share", 0)
            kept = ", ".join(f"`{pattern}`" for pattern in entry["keep"])
            cells.append("–" if not eight else percent(eight) + (f" (kept: {kept})" if kept else ""))
            rows.append("| " + " | ".join(cells) + " |")
    if not rows:
        return ""
    more = ["top-1, fp32 → this", "lost, won"] if kind == "image" else []
    head = ["model and data", "precision", "items", "mean cosine", "1st percentile", "worst", "Kendall", "ten best", *more,
            "in 8 bits"]
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *rows]) + "\n"


def page(folder):
    out = HEAD
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        out += f"\n## {result['device_name']} ({result['isa']})\n\n{result['machine']}; {result['date']}; `{result['command']}`\n"
        for kind, title in (("image", "Pictures"), ("text", "Texts")):
            rows = table(result["entries"], kind)
            if rows:
                out += f"\n### {title}\n\n{rows}"
    return out


def main():
    arguments = [a for a in sys.argv[1:] if a != "--check"]
    root = pathlib.Path(arguments[0] if arguments else pathlib.Path(__file__).parent.parent)
    target, wanted = root / "docs/accuracy.md", page(root / "bench/results/accuracy")
    if "--check" in sys.argv[1:]:
        same = target.is_file() and target.read_text(encoding="utf-8") == wanted
        if not same:
            print("docs/accuracy.md is not what bench/results/accuracy says: run tools/make_accuracy.py", file=sys.stderr)
        return int(not same)
    target.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
