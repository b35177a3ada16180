#!/usr/bin/env python3
"""Compares the tokenizer's ids with transformers' and open_clip's on random strings. Run by hand.

    python tests/golden/tokenizer_fuzz.py BENCH_BINARY [--count 20000] [--seed 1] [--vocab FILE.txt.gz] [--mode hf openai]
    python tests/golden/tokenizer_fuzz.py BENCH_BINARY --folder FOLDER      # transformers only, this folder

BENCH_BINARY is build/…/tandem_tokenizer_bench; the vocabulary is CLIP's own (from the open-clip-torch package) unless
another is named. Prints every difference, at most ten, and exits 1 if there is one.
"""
import argparse
import html.entities
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import ftfy.badness  # noqa: E402
import ftfy.chardata  # noqa: E402
import open_clip.tokenizer as oc  # noqa: E402
from transformers import CLIPTokenizer  # noqa: E402

WORDS = ("a photo of the cat dog's don't we'll THEY'VE i'm you're he'd rock'n'roll 3d 4K 1,000 naïve Straße ΟΔΥΣΣΕΥΣ ΑΣ "
         "İstanbul ǅungla ﬁne ﬅ Ｆｕｌｌ ﾊﾝｶｸ ﾊﾞ 한국어 각 日本語 ไทย हिन्दी العربية עברית Ⅷ ½ ² ① <|startoftext|> "
         "<|endoftext|> <|ENDOFTEXT|> <start_of_text> <end_of_text> <START_OF_TEXT> <ſtart_of_text> 'ſ 'S 'Ll ’s “q” "
         "&amp; &lt; &gt; &quot; &#39; &amp;amp;lt; &eacute; &EACUTE; &notit; &#x80; &#150; &#xD; &#59; &#0; &copy &hellip; "
         "&#xFB05; &#x110000; &zwj; &nbsp; &#x130; &#931; \x1b[31mred\x1b[0m \x1b[ \ufeff \ufffd é e\u0301 \u0301 ö̲̈ K Å "
         "👩‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇩🇪 ☕️ 👍🏽 æ œ Œ Â Ã© â€œ â€™ â€\x9d Ð¿Ñ€Ð¸ Ã  Ã la âœ” Ã¢â‚¬â„¢ lÃ­nea ‚Äô √© вЂ™ "
         "Гр ā€ â€� ï¿½ í\xa0½í¸\x80 À\x80 Ã\xa0 ŠŸ").split(" ")


def kinds():
    """Samplers of one piece of text each, chosen at random by sample()."""
    entities = [f"&{n}" for n in html.entities.html5] + list(ftfy.chardata.HTML_ENTITIES)
    mojibake = sorted({c for s in (*ftfy.badness.MOJIBAKE_CATEGORIES.values(), *ftfy.chardata.UTF8_CLUES.values())
                       for c in s if c != "-"})
    pool = [c for c in range(0x30000) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) not in ("Cn", "Co", "Lo")]
    marks = [c for c in range(0x20000) if unicodedata.combining(chr(c)) or unicodedata.category(chr(c))[0] == "M"]
    spaces = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2009\u200b\u2028\u2029\u202f\u205f\u3000"

    def garbled(r):
        text = "".join(chr(r.choice(pool)) for _ in range(r.randint(1, 4)))
        for _ in range(r.randint(1, 2)):
            try:
                text = text.encode().decode(r.choice(ftfy.chardata.CHARMAP_ENCODINGS))
            except UnicodeError:
                break
        return text

    return [
        lambda r: r.choice(WORDS), lambda r: r.choice(WORDS), lambda r: " ", lambda r: r.choice(spaces),
        lambda r: chr(r.randrange(128)), lambda r: chr(r.choice(pool)), lambda r: chr(r.choice(marks)),
        lambda r: "".join(r.choice("aeoszAEOSZ'Σσ") + chr(r.choice(marks)) for _ in range(r.randint(1, 4))),
        lambda r: chr(r.choice([c for c in (r.randrange(0x110000),) if not 0xD800 <= c < 0xE000] or [65])),
        lambda r: chr(r.randrange(0x80, 0x250)), lambda r: chr(r.randrange(0x370, 0x530)),
        lambda r: chr(r.randrange(0x1100, 0x1200)), lambda r: chr(r.randrange(0xAC00, 0xD7A4)),
        lambda r: chr(r.randrange(0xFF00, 0xFFF0)), lambda r: r.choice(entities),
        lambda r: r.choice(("&#%d;", "&#x%x;", "&#%d", "&#X%X")) % r.choice((r.randrange(256), r.randrange(0x120000))),
        lambda r: "".join(r.choice(mojibake) for _ in range(r.randint(1, 4))), garbled,
        lambda r: "".join(r.choice("abcde") for _ in range(r.choice((3, 8, 20, 60, 200)))),
        lambda r: r.choice("'<>|&;#!?.,-_") * r.randint(1, 3),
    ]


def sample(r, samplers):
    return "".join(r.choice(samplers)(r) for _ in range(r.choice((1, 2, 3, 5, 8, 20))))


def references(vocab_file):
    """(hf encode, openai encode, folder in Hugging Face layout) of one list of merges."""
    folder = Path(tempfile.mkdtemp())
    simple = oc.SimpleTokenizer(bpe_path=str(vocab_file))
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    ids = {names.get(t, t): i for t, i in simple.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(ids))
    ranked = sorted((m for m in simple.bpe_ranks if len(m) == 2), key=simple.bpe_ranks.get)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in ranked))
    fast = CLIPTokenizer.from_pretrained(folder)
    return (lambda t: fast(t, truncation=True, max_length=77).input_ids,
            lambda t: cut([simple.sot_token_id, *simple.encode(t), simple.eot_token_id]), folder)


def cut(ids, most=77):
    return ids if len(ids) <= most else [*ids[:most - 1], ids[-1]]


def ours(binary, vocab, mode, texts):
    result = subprocess.run([binary, "ids", str(vocab), mode], input="".join(json.dumps(t) + "\n" for t in texts),
                            capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{binary}: exit {result.returncode}: {result.stderr}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vocab", default=oc.default_bpe())
    parser.add_argument("--mode", nargs="+", default=["hf", "openai"])
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    samplers, r = kinds(), random.Random(args.seed)
    if args.folder:
        fast, args.mode, openai, folder = CLIPTokenizer.from_pretrained(args.folder), ["hf"], None, args.folder
        added = [form(t) for t in fast.get_added_vocab() for form in (str, str.upper, lambda t: f" {t} ")]
        samplers += [lambda r: r.choice(added)] * 6

        def hf(text):
            return fast(text, truncation=True, max_length=77).input_ids
    else:
        hf, openai, folder = references(args.vocab)
    texts = [sample(r, samplers) for _ in range(args.count)]
    if args.seed == 0:  # every code point by itself, between letters, and as a mark on a letter
        texts = [s for c in range(0x110000) if not 0xD800 <= c < 0xE000 for s in (f"a{chr(c)}Σ{chr(c)}",)]
    failures = 0
    for mode, vocab, expect in (("hf", folder, hf), ("openai", args.vocab, openai)):
        if mode not in args.mode:
            continue
        wrong = 0
        for text, got in zip(texts, ours(args.binary, vocab, mode, texts), strict=True):
            want = expect(text)
            if got != want:
                wrong += 1
                if wrong <= 10:
                    print(f"{mode}: {ascii(text)}\n  want {want}\n  got  {got}")
        print(f"{mode}: {wrong} of {len(texts)} differ")
        failures += wrong
    sys.exit(failures != 0)


if __name__ == "__main__":
    main()
