#!/usr/bin/env python3
"""Times the tokenizer and its peers on 100,000 captions, one thread each, in turn, in one run.

    python bench/tokenizer_bench.py build/…/tandem_tokenizer_bench [--texts 100000] [--rounds 5] [--vocab FILE.txt.gz]

Peers: transformers' fast CLIPTokenizer (one text a call, and all texts in one call) and open_clip's SimpleTokenizer (on
the first tenth). Captions are assembled here from a seed, with the share of accents, entities and curly quotes that
captions from the web have. The vocabulary is CLIP's own. Ids are compared before anything is timed. Time
is processor time, so that a busy machine does not favour the short runs. Writes
bench/results/tokenizer.json.
"""
import argparse
import datetime
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import open_clip  # noqa: E402
import open_clip.tokenizer as oc  # noqa: E402
import tokenizers  # noqa: E402
import transformers  # noqa: E402
from transformers import CLIPTokenizer  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
THINGS = ("cat dog house oak tree woman man mountain bike sunset beach skateboard refrigerator photograph watermelon zebra "
          "giraffe teddy bear kitchen umbrella train station wedding cake laptop computer soccer player fire hydrant "
          "stained-glass window Labrador retriever Eiffel Tower iPhone harbour lighthouse").split()
QUALITIES = ("red blue small huge old-fashioned colourful sleepy wooden snow-covered black-and-white shiny vintage "
             "handmade abandoned photorealistic 1970s 4K").split()
PLACES = ("standing next to", "sitting on top of", "in front of", "behind", "walking past", "leaning against", "seen from")
ENDS = ("", ".", "!", "...", " at night", " in the rain", ", close-up", " | Stock Photo", " #travel", " - it's great", ", they've won")
WEB = ("café", "São Paulo", "Mom&#39;s", "R&amp;B", "“vintage”", "it’s", "Zürich", "10€", "naïve", "crème brûlée", "東京", "❤️")


def captions(count):
    r = random.Random(11)
    for _ in range(count):
        text = (f"{r.choice(('A photo of', 'a picture of', 'Close up of', 'two shots of', ''))} {r.choice(('a', 'the', 'some', '3'))} "
                f"{r.choice(QUALITIES)} {r.choice(THINGS)} {r.choice(THINGS)} {r.choice(PLACES)} {r.choice(('a', 'the'))} "
                f"{r.choice(QUALITIES)} {r.choice(THINGS)}{r.choice(ENDS)}").strip()
        yield f"{text} {r.choice(WEB)}" if r.random() < 0.08 else text


def timed(call):
    begin = time.process_time()
    call()
    return time.process_time() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vocab", default=oc.default_bpe())
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/tokenizer.json")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests/golden"))
    import tokenizer_fuzz as references

    texts = list(captions(args.texts))
    hf, openai, folder = references.references(args.vocab)
    fast, simple = CLIPTokenizer.from_pretrained(folder), oc.SimpleTokenizer(bpe_path=args.vocab)
    some = texts[:2000]
    for mode, vocab, expect in (("hf", folder, hf), ("openai", args.vocab, openai)):
        if references.ours(args.binary, vocab, mode, some) != [expect(t) for t in some]:
            sys.exit(f"{mode}: the ids differ, nothing was timed")

    lines = tempfile.TemporaryFile("w+")
    lines.writelines(json.dumps(t) + "\n" for t in texts)

    def ours(mode):
        lines.seek(0)
        # A round to warm up, then the one that counts: the process, and reading its input, are not timed.
        result = subprocess.run([args.binary, "time", str(args.vocab), mode, "2"], stdin=lines, capture_output=True,
                                text=True, check=True)
        return float(result.stdout.split()[-2])

    def one_by_one():
        for t in texts:
            fast(t, truncation=True, max_length=77)

    tenth = texts[: max(1, len(texts) // 10)]

    def simple_calls():
        simple.bpe.__self__.cache = {t: t for t in ("<start_of_text>", "<end_of_text>")}
        for t in tenth:
            simple.encode(t)

    runs = {"tandem hf": lambda: ours("hf"), "tandem openai": lambda: ours("openai"),
            "transformers batch": lambda: timed(lambda: fast(texts, truncation=True, max_length=77)),
            "transformers one by one": lambda: timed(one_by_one),
            "open_clip": lambda: timed(simple_calls) * len(texts) / len(tenth)}
    seconds = {name: [] for name in runs}
    for _ in range(args.rounds):
        for name, run in runs.items():
            seconds[name].append(run())
    median = {name: statistics.median(values) for name, values in seconds.items()}
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30

    def rate(name):
        return round(len(texts) / median[name])

    hf_peers = {"transformers 5 fast, one batch": rate("transformers batch"),
                "transformers 5 fast, one by one": rate("transformers one by one")}
    result = {
        "machine": f"{cpu}, {os.cpu_count()} cores, {memory} GiB; one thread",
        "date": datetime.date.today().isoformat(),
        "command": "python bench/tokenizer_bench.py build/…/tandem_tokenizer_bench",
        "versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__, "open_clip": open_clip.__version__},
        "seconds": {name: [round(s, 4) for s in values] for name, values in seconds.items()},
        "comparisons": [
            {"what": f"{len(texts):,} captions to ids, --cleaning hf, one core", "unit": "texts per second of processor time", "better": "higher",
             "tandem": rate("tandem hf"), "peers": hf_peers, "readme": False},
            {"what": f"{len(texts):,} captions to ids, --cleaning openai, one core", "unit": "texts per second of processor time", "better": "higher",
             "tandem": rate("tandem openai"), "peers": {"open_clip 3.3": rate("open_clip")}, "readme": False},
        ],
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for name, s in median.items():
        print(f"{name:26s} {s:9.4f} s  {len(texts) / s:12,.0f} texts/s")
    print(f"hf: {rate('tandem hf') / max(hf_peers.values()):.1f}x transformers, "
          f"openai: {rate('tandem openai') / rate('open_clip'):.1f}x open_clip")


if __name__ == "__main__":
    main()
