#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/: a small vocabulary in every layout, hostile strings, and the references' ids.

    python tests/golden/make_tokenizer_golden.py     # needs transformers 5.23, open-clip-torch 3.3, ftfy 6.3

The small vocabulary is trained here, on the sentences below. `clip.json` has ids in CLIP's own vocabulary, which is not
in this repository: the test takes it from the open-clip-torch package (tools/fetch_clip_vocab.sh) and skips without it.
"""
import gzip
import json
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import ftfy  # noqa: E402
import open_clip.tokenizer as oc  # noqa: E402
import tokenizer_fuzz as fuzz  # noqa: E402
import tokenizers  # noqa: E402
import transformers  # noqa: E402
from transformers import CLIPTokenizer  # noqa: E402

OUT = Path(__file__).resolve().parent / "tokenizer"
MERGES = 420
START, END = "<|startoftext|>", "<|endoftext|>"

SENTENCES = """a photo of the cat that sat on the mat and watched the dog
a photo of the dog that ran after the cat and would not stop
two birds in the tree sing before the rain comes down over the town
the red house stands next to the blue house and they're both for sale
it's a small boat on the water, isn't it? we'll row it to the other shore
a heart, a star, a smiling face and a thumbs up: that's what they've sent
she'd like 3 apples, 2 pears and 10 plums; i'm happy with the rest
the naïve café owner über den straßen serves crème brûlée to señor muñoz
кошка сидит на окне и смотрит на птицу
γάτα και σκύλος στον κήπο
猫が庭で寝ている 犬も寝ている
고양이와 강아지
☕ ❤ ★ 👍 😀 😀 😀""".split("\n")

EXTRA = [
    "", " ", "\n\t\r\x0b\x0c", "\x00", "a\x00b", "a", "A", "a photo of a cat", "  leading and trailing  ", "UPPER lower MiXeD",
    "don't DON'T don’t don`t", "'s 't 're 've 'm 'll 'd 'S 'Re", "'''s", "a'sb", "rock'n'roll", "''", "'", "1234567890", "3.14",
    "x" * 300, "cat " * 100, "the cat sat on the mat " * 20, "😀" * 60, "a" * 60, "abcdefghij" * 10, "!" * 100, "1" * 100,
    "naïve nai\u0308ve NAI\u0308VE", "e\u0301\u0323", "e\u0323\u0301", "\u1e69 s\u0323\u0307 s\u0307\u0323", "\u212b \u212a \u2126",
    "\u0130\u0131 I i", "ΣΑΣ ΑΣ Σ ΑΣ. ΑΣ'Α Σ\u0301 Α\u0301Σ\u0301", "ς σ Σ", "ǅ ǈ ǋ ǲ", "ß ẞ ſ ﬅ ﬆ ﬀ ﬁ ﬂ ﬃ ﬄ ĳ ŉ",
    "Ⅷ ⅷ ½ ² ① ㊿ 〇 ৪ ४", "각 \u1100\u1161\u11a8 \uac00\u11a8 \u1100\u1161", "ｶﾞ ﾊﾟ ＡＢＣ １２３ ｗ￥", "\u3000\u2003\u00a0\u1680\u202f\u205f\u2028\u2029\u0085",
    "zero\u200bwidth\u200c\u200d\u2060\ufeffjoiners", "soft\u00adhyphen", "rtl \u202eoverride\u202c", "👩‍👩‍👧‍👦 🏳️‍🌈 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇩🇪 1️⃣ 👍🏽",
    "\ud7ff\ue000\ufdd0\ufffe\uffff", "\U0001fffe\U0010ffff", "\u0378\u0530\u1c89\u2fe0", "\U00010400\U00010428\U0001e900\U0001e922",
    "<|startoftext|>", "<|endoftext|>", "a<|endoftext|>b", "<|ENDOFTEXT|>", "<|EndOfText|>!", "<start_of_text>", "a <end_of_text> b",
    "<START_OF_TEXT>", "<ſtart_of_text>", "!<start_of_text>", "<|endoftext", "<|endoftext|", "<|endoftext|>>", "<<|endoftext|>",
    "&amp;", "&amp;amp;", "&amp;amp;amp;amp;lt;", "&lt;b&gt; &amp;", "<b> &amp; &eacute;", "line <\n&amp; next", "&amp; first\n< second &amp;",
    "&notit; &notin; &not; &copy &copyx &ampx", "&EACUTE; &Eacute; &eACUTE; &SZLIG;", "&#65; &#x41; &#X41; &#65 &#x41g &#;", "&#59; &#x3b; &amp;#59;",
    "&#0; &#x80; &#x9f; &#129; &#13; &#xd800; &#x110000; &#99999999999; &#11; &#xfffe;", "&CounterClockwiseContourIntegral;", "&" + "x" * 40 + ";",
    "&nbsp;&ensp;&zwj;", "&NotEqualTilde; &fjlig;", "\x1b[31mred\x1b[0m \x1b[1;2m \x1b[ \x1b[99", "a\x1b[mb\x1bc", "\x7f\x01\x1f\x1c\x85\x9d",
    "“double” ‘single’ ‛odd‟ ʼmodifier", "schÃ¶n", "Ã©tÃ© Ã la carte", "â€œquotedâ€\x9d", "itâ€™s", "Ã¢â‚¬â„¢", "ÐšÐ¾ÑˆÐºÐ°", "voilÃ  le chat",
    "âœ” No problems", "ï¿½", "â€�", "Â£5 Â½", "L’Ã©tÃ©", "√© ‚Äô", "пїЅ Ð", "Ã", "Â", "lÃ­nea mÃ¡s", "æ–‡å—åŒ–ã‘", "ã\x83\x84", "\x93hi\x94", "AHÅ™, the new sofa",
    "Õ’ ƒ ˆ ¦ ¤", "ˆ\u00a0Â", "àß°", "\u0345 α\u0345 ᾳ", "a\u0345b !\u0345!", "クリーム, 抹茶", "ไทย हिन्दी العربية עברית", "\u0f78\ua8c4", "\U00011935\U00011930 \U00011938",
]


def train(sentences, count):
    """Merges of greedy byte-pair training, ties by spelling."""
    encode = oc.bytes_to_unicode()
    words = Counter()
    for line in sentences:
        for word in line.split():
            symbols = [encode[b] for b in word.encode()]
            words[(*symbols[:-1], symbols[-1] + "</w>")] += 1
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, n in words.items():
            for pair in zip(word, word[1:]):
                pairs[pair] += n
        if not pairs:
            break
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        merged = Counter()
        for word, n in words.items():
            out, i = [], 0
            while i < len(word):
                if word[i:i + 2] == best:
                    out.append("".join(best))
                    i += 2
                else:
                    out.append(word[i])
                    i += 1
            merged[tuple(out)] += n
        words = merged
    return merges


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=None, separators=(",", ":")) + "\n")


def write_cases(path, texts, columns):
    """One case a line: readable differences when something changes."""
    rows = [json.dumps({"text": t, **{k: f(t) for k, f in columns.items()}}, separators=(",", ":")) for t in texts]
    versions = {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__,
                "open_clip": "3.3.0", "ftfy": ftfy.__version__}
    path.write_text('{"versions":' + json.dumps(versions) + ',"cases":[\n' + ",\n".join(rows) + "\n]}\n")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    (OUT / "openai").mkdir(parents=True)
    merges = train(SENTENCES, MERGES)
    lines = "\n".join(f"{a} {b}" for a, b in merges)
    archive = OUT / "openai" / "bpe_simple_vocab_16e6.txt.gz"
    archive.write_bytes(gzip.compress(f"small\n{lines}".encode(), mtime=0))

    hf, openai, folder = fuzz.references(archive)
    (OUT / "split").mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(folder / name, OUT / "split" / name)
    fast = CLIPTokenizer.from_pretrained(OUT / "split")
    fast.save_pretrained(OUT / "json")
    for file in (OUT / "json").iterdir():
        if file.name == "tokenizer.json":
            write_json(file, json.loads(file.read_text()))
        else:
            file.unlink()

    # An extended vocabulary: tokens of every sort, start and end of other names, as tokenizer.json and beside it.
    config = {"bos_token": "<s>", "eos_token": {"content": "</s>", "normalized": True, "__type": "AddedToken"},
              "pad_token": "<pad>", "unk_token": END, "added_tokens_decoder": {
                  str(len(fast)): {"content": "New York", "single_word": True, "lstrip": False, "rstrip": False,
                                   "normalized": True, "special": False},
                  str(len(fast) + 1): {"content": "<Obj>", "single_word": False, "lstrip": True, "rstrip": True,
                                       "normalized": False, "special": True}}}
    (OUT / "extended").mkdir()
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(OUT / "split" / name, OUT / "extended" / name)
    write_json(OUT / "extended" / "tokenizer_config.json", config)
    extended = CLIPTokenizer.from_pretrained(OUT / "extended")

    samplers, r = fuzz.kinds(), random.Random(7)
    texts = list(dict.fromkeys(EXTRA + fuzz.WORDS + [fuzz.sample(r, samplers) for _ in range(300)]))
    write_cases(OUT / "small.json", texts, {"hf": hf, "openai": openai})
    clip_hf, clip_openai, _ = fuzz.references(oc.default_bpe())
    write_cases(OUT / "clip.json", texts, {"hf": clip_hf, "openai": clip_openai})
    added = ["new york", "a New York b", "NEW  YORK", "new yorker", "x<Obj>y", "x <Obj> y", "<OBJ>", "<s>", "<S>", "</s>", "</S>", "<pad>",
             END, "no <|startoftext|> more", "New York</s>New York", "new york\u0301", "_new york_", "<s>" * 80]
    write_cases(OUT / "extended.json", added,
                {"hf": lambda t: extended(t, truncation=True, max_length=77).input_ids})
    for path in sorted(OUT.rglob("*.*")):
        print(path.relative_to(OUT), path.stat().st_size)


if __name__ == "__main__":
    main()
