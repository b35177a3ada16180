#!/usr/bin/env python3
"""Writes src/text/unicode_tables.inc, mojibake_tables.inc and html_entities.inc: what the reference tokenizers do, per code point.

Nothing here is taken from the Unicode database directly. Every table is read off the references themselves, one code
point at a time, because each of them carries its own Unicode version: the `tokenizers` library (Oniguruma classes, a
Rust normaliser and lower-casing), the `regex` module, Python's `str` and `re`, and ftfy. Run it again, and commit the
result, when the stated versions change:

    python tools/make_unicode_tables.py      # needs tokenizers, regex, ftfy; about two minutes

"""
import html
import itertools
import re
import sys
import unicodedata
from pathlib import Path

import ftfy
import ftfy.badness
import ftfy.chardata
import regex
import tokenizers
from tokenizers import Regex, normalizers

OUT = Path(__file__).resolve().parent.parent / "src" / "text"
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]

# Bit numbers of the classes; the names are repeated as an enum in src/text/unicode.h.
FLAGS = [
    "hf_letter", "hf_number", "hf_other", "hf_space", "hf_normal",
    "py_letter", "py_number", "py_other", "py_space", "py_normal",
    "py_cased", "py_ignorable", "py_word", "py_digit", "hf_word",
]


def class_of(test):
    return {c for c in CODE_POINTS if test(chr(c))}


def hf_class(pattern):
    """Code points that the tokenizers library's regex engine matches."""
    erase = normalizers.Replace(Regex(pattern), "")
    return class_of(lambda s: erase.normalize_str(s) == "")


def py_class(pattern):
    """Code points that one character of the `regex` module's pattern matches when case is ignored, as open_clip does."""
    compiled = regex.compile(pattern, regex.IGNORECASE)
    return class_of(lambda s: compiled.match(s) is not None)


def hf_word_class():
    """Code points beside which a "single word" added token does not count (\\w of Rust's regex)."""
    probe = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?"))
    probe.add_tokens([tokenizers.AddedToken("<t>", single_word=True)])
    return class_of(lambda s: 1 not in probe.encode(s + "<t>").ids)


def combining_classes(nfd):
    """Canonical combining class of every code point, found by how `nfd` orders it against known marks."""
    overlay = "\u0334"  # class 1: sorts before every other mark

    def is_mark(s):
        """Whether `nfd` ever moves s, itself not decomposable."""
        return nfd(s + overlay) != s + overlay or nfd("\u0301" + s) != "\u0301" + s

    marks = {1: overlay}
    for c in CODE_POINTS:
        k = unicodedata.combining(chr(c))
        # A representative must be one that this normaliser knows: its Unicode may be older than Python's.
        if k and k not in marks and nfd(chr(c)) == chr(c) and is_mark(chr(c)):
            marks[k] = chr(c)
    classes = {}
    for c in CODE_POINTS:
        s = chr(c)
        if nfd(s) == s and is_mark(s):
            # Marks of one class keep their order whichever comes first.
            same = [k for k, m in marks.items() if nfd(s + m) == s + m and nfd(m + s) == m + s]
            assert len(same) == 1, (hex(c), same)
            classes[c] = same[0]
    return classes


def PY_NFD(s):
    return unicodedata.normalize("NFD", s)


def PY_NFC(s):
    return unicodedata.normalize("NFC", s)


HF_NFD = normalizers.NFD().normalize_str
HF_NFC = normalizers.NFC().normalize_str


def normal_form(nfd, nfc):
    """(full decompositions, combining classes, compositions) of a normaliser; Hangul is left to arithmetic."""
    hangul = range(0xAC00, 0xAC00 + 11172)
    decomposed = {c: nfd(chr(c)) for c in CODE_POINTS if c not in hangul and nfd(chr(c)) != chr(c)}
    classes = combining_classes(nfd)
    composed = {}
    for c, parts in decomposed.items():
        if nfc(chr(c)) != chr(c) or len(parts) < 2:
            continue
        # The last step of composing: some prefix already composed, plus the last mark.
        for cut in range(1, len(parts)):
            first = nfc(parts[:cut])
            if len(first) == 1 and len(parts) - cut == 1:
                assert nfc(first + parts[cut:]) == chr(c), hex(c)
                composed[(ord(first), ord(parts[cut]))] = c
    return decomposed, classes, composed


def lower_deltas(lower):
    """{code point: change} for one-to-one lower-casing; anything longer is asserted to be U+0130 alone."""
    result = {}
    for c in CODE_POINTS:
        small = lower(chr(c))
        if len(small) != 1:
            assert c == 0x130 and small == "i\u0307", hex(c)
        elif ord(small) != c:
            result[c] = ord(small)
    return result


def utf8_clues():
    """{code point: bits} of the classes in ftfy's UTF8_DETECTOR_RE, in the order of enum Clue in src/text/mojibake.cc."""
    bits = {}
    for number, name in enumerate(("utf8_first_of_2", "utf8_first_of_3", "utf8_first_of_4", "utf8_continuation",
                                   "utf8_continuation_strict")):
        pattern = re.compile(f"[{ftfy.chardata.UTF8_CLUES[name]}]")
        for c in class_of(pattern.match):
            bits[c] = bits.get(c, 0) | 1 << number
    return bits


def badness_automaton(is_word, is_space):
    """ftfy's BADNESS_RE as a bit-parallel (shift-and) automaton.

    The expression is an alternation of short sequences of character classes, with one "\\s?" and one "^". Every place
    in every sequence is one bit; a code point's mask says at which places it may stand. Returns (masks, {code point:
    mask number} where it differs from its default, [default mask number by is_space * 2 + is_word], bits that start a
    sequence, bits that start one at the beginning of the text only, bits that end one).
    """
    from re import _constants as op, _parser as parser

    def sequences(nodes):
        """Every way through `nodes` as a list of (anchored, [one-character expressions])."""
        ways = [(False, [])]
        for kind, value in nodes:
            if kind is op.BRANCH:
                parts = [w for branch in value[1] for w in sequences(branch)]
            elif kind is op.AT:
                assert value is op.AT_BEGINNING
                parts = [(True, [])]
            elif kind is op.MAX_REPEAT:
                assert value[:2] == (0, 1)
                parts = [(False, []), *sequences(value[2])]
            else:
                assert kind in (op.IN, op.LITERAL, op.NOT_LITERAL, op.ANY), kind
                parts = [(False, [(kind, value)])]
            ways = [(a or b, x + y) for a, x in ways for b, y in parts]
        return ways

    def members(kind, value):
        """The code points that one single-character node matches."""
        if kind is op.LITERAL:
            return {value}
        if kind is op.ANY:
            return set(CODE_POINTS) - {10}
        assert kind is op.IN
        result, negate = set(), False
        for k, v in value:
            if k is op.NEGATE:
                negate = True
            elif k is op.LITERAL:
                result.add(v)
            elif k is op.RANGE:
                result.update(range(v[0], v[1] + 1))
            else:
                assert k is op.CATEGORY and v in (op.CATEGORY_WORD, op.CATEGORY_SPACE), (k, v)
                result |= is_word if v is op.CATEGORY_WORD else is_space
        return set(CODE_POINTS) - result if negate else result

    first = first_at_start = last = bit = 0
    per_point = {c: 0 for c in CODE_POINTS}
    for anchored, places in sequences(parser.parse(ftfy.badness.BADNESS_RE.pattern, re.VERBOSE)):
        if anchored:
            first_at_start |= 1 << bit
        else:
            first |= 1 << bit
        for place in places:
            for c in members(*place):
                per_point[c] |= 1 << bit
            bit += 1
        last |= 1 << bit - 1
    assert bit <= 128, bit
    numbers = {}
    for c in CODE_POINTS:
        numbers.setdefault(per_point[c], len(numbers))
    defaults = []
    for plain in ("\x01", "\u4e00", "\u2003", None):  # neither, word, space, both: none is both
        defaults.append(numbers[per_point[ord(plain)]] if plain else 0)
    special = {c: numbers[m] for c, m in per_point.items()
               if numbers[m] != defaults[2 * (c in is_space) + (c in is_word)]}
    return list(numbers), special, defaults, first, first_at_start, last


class Writer:
    def __init__(self, path, header):
        self.path, self.lines = path, list(header)

    def table(self, comment, declaration, items):
        self.lines += ["", f"// {comment}", f"{declaration} = {{"]
        line = "   "
        for item in items:
            if len(line) + len(item) + 2 > 119:
                self.lines.append(line)
                line = "   "
            line += f" {item},"
        self.lines += [line, "};"]

    def write(self):
        self.path.write_text("\n".join(line.rstrip() for line in self.lines) + "\n")
        print(f"{self.path}: {self.path.stat().st_size} bytes")


def ranges(values):
    """[(first code point, value)] wherever the value changes; surrogates continue their left neighbour."""
    result = []
    for c in CODE_POINTS:
        v = values.get(c, 0)
        if not result or result[-1][1] != v:
            result.append((c, v))
    return result


def quoted(text):
    """A C++ UTF-8 string literal of `text`: readable where it prints."""
    out = ""
    for char in text:
        if char in '"\\?':
            out += "\\" + char
        elif unicodedata.category(char)[0] in "LNPS":
            out += char
        else:
            out += "".join(f"\\{b:03o}" for b in char.encode())
    return f'"{out}"'


def main():
    versions = (f"tokenizers {tokenizers.__version__}, regex {regex.__version__}, ftfy {ftfy.__version__}, "
                f"Python {sys.version.split()[0]} (Unicode {unicodedata.unidata_version})")
    header = [f"// Generated by tools/make_unicode_tables.py from {versions}.", "// clang-format off"]
    w = Writer(OUT / "unicode_tables.inc", header)

    hf = normal_form(HF_NFD, HF_NFC)
    py = normal_form(PY_NFD, PY_NFC)

    def touches_normal_form(form):
        decomposed, classes, composed = form
        second = {b for _, b in composed} | set(range(0x1161, 0x1176)) | set(range(0x11A7, 0x11C3))
        compose = {c for c in composed.values()}
        return (set(decomposed) - compose) | set(classes) | second

    upper_sigma = "\u03a3"
    ends = class_of(lambda s: ("1" + s + upper_sigma).lower().endswith("\u03c2"))
    ends_after_a = class_of(lambda s: ("a" + s + upper_sigma).lower().endswith("\u03c2"))
    members = {
        "hf_letter": hf_class(r"[\p{L}]"), "hf_number": hf_class(r"[\p{N}]"),
        "hf_other": hf_class(r"[^\s\p{L}\p{N}]"), "hf_space": hf_class(r"\s"), "hf_normal": touches_normal_form(hf),
        "py_letter": py_class(r"[\p{L}]+"), "py_number": py_class(r"[\p{N}]"),
        "py_other": py_class(r"[^\s\p{L}\p{N}]+"), "py_space": class_of(str.isspace),
        "py_normal": touches_normal_form(py), "py_cased": ends, "py_ignorable": ends_after_a - ends,
        "py_word": class_of(lambda s: re.match(r"\w", s)), "py_digit": class_of(lambda s: re.match(r"\d", s)),
        "hf_word": hf_word_class(),
    }
    assert members["py_space"] == class_of(lambda s: re.match(r"\s", s))
    flags = {}
    for bit, name in enumerate(FLAGS):
        for c in members[name]:
            flags[c] = flags.get(c, 0) | 1 << bit
    w.table("Classes: first code point of a run and its flags (enum Flag in unicode.h).",
            "constexpr Run kFlagRuns[]", [f"{{0x{c:x},0x{v:x}}}" for c, v in ranges(flags)])

    lower = {1: lower_deltas(normalizers.Lowercase().normalize_str), 2: lower_deltas(str.lower)}
    # Runs of equal change, written as first, last, step, change and who does it (1 tokenizers, 2 Python, 3 both).
    triples = {}
    for who, table in lower.items():
        for c, small in table.items():
            triples[(c, small - c)] = triples.get((c, small - c), 0) | who
    runs = []
    for (c, delta), who in sorted(triples.items()):
        for run in reversed(runs[-3:]):
            if run[3] == delta and run[4] == who and c - run[1] in (1, 2) and (run[2] == 0 or run[2] == c - run[1]):
                run[1], run[2] = c, c - run[1]
                break
        else:
            runs.append([c, c, 0, delta, who])
    w.table("Lower-casing: first, last, step, change, whose (1 tokenizers, 2 Python, 3 both). U+0130 is apart.",
            "constexpr LowerRun kLowerRuns[]",
            [f"{{0x{a:x},0x{b:x},{max(s, 1)},{d},{who}}}" for a, b, s, d, who in runs])

    def merged(a, b):
        both = {}
        for who, table in ((1, a), (2, b)):
            for key, value in table.items():
                both[(key, value)] = both.get((key, value), 0) | who
        return sorted(both.items())

    w.table("Full canonical decompositions (Hangul apart): code point, whose, parts.",
            "constexpr Decomposition kDecompositions[]",
            [f"{{0x{c:x},{who},{{{','.join(f'0x{ord(p):x}' for p in parts)}}}}}"
             for (c, parts), who in merged(hf[0], py[0])])
    assert max(len(p) for p in py[0].values()) <= 4
    w.table("Canonical combining classes other than 0: code point, whose, class.",
            "constexpr CombiningClass kCombiningClasses[]",
            [f"{{0x{c:x},{who},{k}}}" for (c, k), who in merged(hf[1], py[1])])
    w.table("Compositions: first, second, whose, result.", "constexpr Composition kCompositions[]",
            [f"{{0x{a:x},0x{b:x},{who},0x{c:x}}}" for ((a, b), c), who in merged(hf[2], py[2])])

    # ftfy: single characters that become others.
    single = {c: s for c, s in ftfy.chardata.LIGATURES.items()}
    w.table("ftfy's ligatures: code point, replacement.", "constexpr Replacement kLigatures[]",
            [f"{{0x{c:x},{quoted(s)}}}" for c, s in sorted(single.items())])
    w.table("ftfy's width map: code point, replacement.", "constexpr Replacement kWidths[]",
            [f"{{0x{c:x},{quoted(s)}}}" for c, s in sorted(ftfy.chardata.WIDTH_MAP.items())])
    w.write()

    w = Writer(OUT / "mojibake_tables.inc", header)
    w.table("ftfy's UTF-8 clues: code point, bits (enum Clue in mojibake.cc).", "constexpr Run kUtf8Clues[]",
            [f"{{0x{c:x},0x{v:x}}}" for c, v in sorted(utf8_clues().items())])
    masks, special, defaults, first, first_at_start, last = badness_automaton(members["py_word"], members["py_space"])

    def halves(m):
        return f"{{0x{m & (1 << 64) - 1:x},0x{m >> 64:x}}}"

    w.table("ftfy's badness automaton: where a character of each kind may stand.", "constexpr Mask kBadnessMasks[]",
            [halves(m) for m in masks])
    w.table("Code points whose kind is not their default: code point, kind.", "constexpr Run kBadnessKinds[]",
            [f"{{0x{c:x},{v}}}" for c, v in sorted(special.items())])
    w.table("Default kinds: neither word nor space, word, space.", "constexpr std::uint16_t kBadnessDefaults[3]",
            [str(d) for d in defaults[:3]])
    w.table("Places that start a sequence, that start one at the text's beginning, that end one.",
            "constexpr Mask kBadnessPlaces[3]", [halves(first), halves(first_at_start), halves(last)])
    encodings = ftfy.chardata.CHARMAP_ENCODINGS
    print(encodings)
    w.table("Bytes 0x80 to 0xff of ftfy's single-byte encodings, in its order of trying: " + ", ".join(encodings) + ".",
            f"constexpr char16_t kEncodings[{len(encodings)} * 128]",
            [item for e in encodings for item in (f"0x{ord(bytes([b]).decode(e)):x}" for b in range(128, 256))])
    w.write()

    w = Writer(OUT / "html_entities.inc", header)
    w.table("Python's html.entities.html5: name (with its semicolon if it needs one), characters; sorted by name.",
            "constexpr Entity kHtml5[]",
            [f"{{{quoted(n)},{quoted(s)}}}" for n, s in sorted(html.entities.html5.items())])
    extra = {n[1:]: s for n, s in ftfy.chardata.HTML_ENTITIES.items() if html.entities.html5.get(n[1:]) != s}
    assert all(n not in html.entities.html5 for n in extra)
    w.table("What ftfy adds: entities in capitals; sorted by name.", "constexpr Entity kCapitalEntities[]",
            [f"{{{quoted(n)},{quoted(s)}}}" for n, s in sorted(extra.items())])
    w.table("Numeric references that html.unescape replaces: number, characters; sorted.",
            "constexpr Replacement kNumericReferences[]",
            [f"{{0x{n:x},{quoted(s)}}}" for n, s in sorted(html._invalid_charrefs.items())])
    bad = sorted(html._invalid_codepoints)
    w.table("Numeric references that html.unescape drops; sorted.", "constexpr char32_t kInvalidReferences[]",
            [f"0x{n:x}" for n in bad])
    w.write()


if __name__ == "__main__":
    main()
