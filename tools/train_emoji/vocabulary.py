"""The model's own byte-pair vocabulary in CLIP's format (vocab.json, merges.txt), learnt from the captions' words.

Order of ids, as CLIP has it: 256 bytes, 256 bytes that end a word (`</w>`), the merges, start, end.

    python vocabulary.py PACK_DIR OUT_DIR
"""

import argparse
import collections
import functools
import json
import pathlib

import regex

import phrases

VOCABULARY = 4096
MERGES = VOCABULARY - 512 - 2
START, END = VOCABULARY - 2, VOCABULARY - 1
PRE_TOKEN = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)


def byte_characters():
    """One printable character for every byte, in CLIP's (GPT-2's) order: printable bytes stand for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in characters:
            characters[byte] = chr(256 + len(characters) - len(printable))
    return characters


BYTES = byte_characters()


def words_of(text):
    """Text → its pre-tokens, as tuples of symbols with the last one ending in `</w>`."""
    for word in PRE_TOKEN.findall(" ".join(text.lower().split())):
        symbols = [BYTES[byte] for byte in word.encode()]
        yield (*symbols[:-1], symbols[-1] + "</w>")


def training_texts(entries):
    """(text, weight) of everything that captions are made of."""
    for entry in entries:
        yield entry["name"], 4
        for keyword in entry["keywords"]:
            yield keyword, 2
    blocks = [
        phrases.SUBJECTS,
        phrases.DETERMINERS,
        phrases.MEDIA_ADJECTIVES,
        phrases.MEDIA,
        phrases.CONNECTORS,
        phrases.ADJECTIVES,
        phrases.SUFFIXES,
        phrases.BACKGROUNDS,
        phrases.JOINERS,
        *phrases.POSITIONS.values(),
        *phrases.SIZES.values(),
        *phrases.COUNTS.values(),
        *phrases.RELATIONS.values(),
    ]
    for block in blocks:
        for phrase in phrases.split(block):
            yield phrase.replace("{}", ""), 3
    for words in phrases.COLOUR_WORDS.values():
        for word in words:
            yield word, 20
    for word in phrases.FILLERS:
        yield word, 3


def learn_merges(texts, wanted):
    """Byte-pair merges, most frequent pair first; ties go to the smaller pair, so that the result is reproducible."""
    counts = collections.Counter()
    for text, weight in texts:
        for word in words_of(text):
            counts[word] += weight
    words = [list(word) for word in sorted(counts)]
    weights = [counts[tuple(word)] for word in words]
    pairs, places = collections.Counter(), collections.defaultdict(set)
    for index, word in enumerate(words):
        for pair in zip(word, word[1:]):
            pairs[pair] += weights[index]
            places[pair].add(index)
    merges = []
    while len(merges) < wanted and pairs:
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[best] <= 0:
            break
        merges.append(best)
        for index in sorted(places.pop(best)):
            word = words[index]
            for pair in zip(word, word[1:]):
                pairs[pair] -= weights[index]
            merged, at = [], 0
            while at < len(word):
                if tuple(word[at : at + 2]) == best:
                    merged.append(word[at] + word[at + 1])
                    at += 2
                else:
                    merged.append(word[at])
                    at += 1
            words[index] = merged
            for pair in zip(merged, merged[1:]):
                pairs[pair] += weights[index]
                places[pair].add(index)
        pairs.pop(best, None)
    return merges


def id_table(merges):
    """Symbol → id in CLIP's order."""
    singles = list(BYTES[byte] for byte in [*range(33, 127), *range(161, 173), *range(174, 256)])
    singles += [BYTES[byte] for byte in range(256) if BYTES[byte] not in set(singles)]
    symbols = singles + [single + "</w>" for single in singles] + [a + b for a, b in merges]
    symbols += ["<|startoftext|>", "<|endoftext|>"]
    assert len(symbols) == len(set(symbols)), "two merges make the same symbol"
    return {symbol: index for index, symbol in enumerate(symbols)}


class Tokenizer:
    """Plain encoder for building captions: no start or end token, no truncation."""

    def __init__(self, merges):
        self.ids = id_table(merges)
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}

    @classmethod
    def from_folder(cls, folder):
        lines = (pathlib.Path(folder) / "merges.txt").read_text(encoding="utf-8").split("\n")
        return cls([tuple(line.split(" ")) for line in lines[1:] if line])

    def save(self, folder):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vocab.json").write_text(
            json.dumps(self.ids, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
        )
        (folder / "merges.txt").write_text(
            "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in self.ranks), encoding="utf-8"
        )

    @functools.lru_cache(maxsize=None)
    def _word(self, word):
        symbols = list(word)
        while len(symbols) > 1:
            best = min(zip(symbols, symbols[1:]), key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            at = 0
            while at < len(symbols) - 1:
                if (symbols[at], symbols[at + 1]) == best:
                    symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
                at += 1
        return [self.ids[symbol] for symbol in symbols]

    def encode(self, text):
        return [index for word in words_of(text) for index in self._word(word)]

    def encode_for_model(self, text, context):
        """Start, ids (cut so that the end stays), end, padded with end: as CLIPTokenizer does with max_length."""
        ids = [START, *self.encode(text)[: context - 2], END]
        return ids + [END] * (context - len(ids))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    options = parser.parse_args()
    entries = json.loads((options.pack / "glyphs.json").read_text(encoding="utf-8"))["entries"]
    merges = learn_merges(training_texts(entries), MERGES)
    if len(merges) < MERGES:
        raise SystemExit(f"only {len(merges)} merges found in the captions' words, {MERGES} are needed")
    tokenizer = Tokenizer(merges)
    tokenizer.save(options.folder)
    lengths = [len(tokenizer.encode(entry["name"])) for entry in entries]
    print(
        f"{len(tokenizer.ids)} symbols; tokens a name: mean {sum(lengths) / len(lengths):.2f}, longest {max(lengths)}"
    )


if __name__ == "__main__":
    main()
