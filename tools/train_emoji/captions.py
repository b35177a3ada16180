"""Captions for scenes, put together on the device from pre-tokenised fragments, and what each caption claims.

CLIP's tokenizer splits at spaces before it merges bytes, so the ids of "a red heart" are those of its words in a row:
a caption is a row of fragment numbers, one for each slot of a frame, and becomes token ids by copying.
"""

import dataclasses
import random

import torch

import phrases
import scenes as scene_types
import vocabulary

CONTEXT = 32
RELATION_WORDS = set("above over below beneath under underneath higher lower left right top bottom".split())


class Fragments:
    """Texts by number: ids[n, longest] and length[n]; number 0 is the empty fragment."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.numbers, self.tokens = {"": 0}, [[]]

    def add(self, text):
        text = " ".join(text.split())
        if text not in self.numbers:
            self.numbers[text] = len(self.tokens)
            self.tokens.append(self.tokenizer.encode(text)[: CONTEXT - 2])
        return self.numbers[text]

    def pool(self, texts, device):
        return torch.tensor([self.add(text) for text in texts], device=device)

    def tables(self, device):
        length = torch.tensor([len(tokens) for tokens in self.tokens], device=device)
        ids = torch.zeros(len(self.tokens), int(length.max()), dtype=torch.long)
        for row, tokens in enumerate(self.tokens):
            ids[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.long)
        return ids.to(device), length


class Concepts:
    """Names (0 .. entries-1, same order) and keywords after them, and of which glyph each is true."""

    def __init__(self, entries, device="cpu"):
        self.names = [entry["name"] for entry in entries]
        keywords = sorted({word for entry in entries for word in entry["keywords"]} - set(self.names))
        self.texts = self.names + keywords
        number = {text: index for index, text in enumerate(self.texts)}
        words = [set(entry["name"].split()) | {entry["name"]} for entry in entries]
        true = torch.zeros(len(entries), len(self.texts), dtype=torch.bool)
        listed = []
        for index, entry in enumerate(entries):
            listed.append([number[word] for word in entry["keywords"]])
            true[index, listed[-1]] = True
            same = [other for other, candidate in enumerate(entries) if candidate["class"] == entry["class"]]
            true[index, same] = True
        for keyword in keywords:  # "cat" may be said of "cat with tears of joy", listed or not
            parts = set(keyword.split())
            for index, known in enumerate(words):
                if parts <= known:
                    true[index, number[keyword]] = True
        strict = true.clone()
        strict[:, : len(entries)] = False
        for index, entry in enumerate(entries):
            strict[
                index, [other for other, candidate in enumerate(entries) if candidate["class"] == entry["class"]]
            ] = True
        self.strict = strict.to(device)  # [glyph, concept], a name meaning its own emoji only
        self.entries = len(entries)
        self.listed = listed
        self.true = true.to(device)  # [glyph, concept]
        widest = max(map(len, listed))
        table = torch.zeros(len(entries), widest, dtype=torch.long)
        for index, row in enumerate(listed):
            table[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        self.keyword_table = table.to(device)
        self.keyword_count = torch.tensor([len(row) for row in listed], device=device)


@dataclasses.dataclass
class Captions:
    ids: torch.Tensor  # [n, CONTEXT]
    concepts: torch.Tensor  # [n, LAYERS] what is said, -1: nothing
    colour: torch.Tensor  # [n] background named, -1: none
    count: torch.Tensor  # [n] number claimed, 0: none
    related: torch.Tensor  # [n] bool: says which of two glyphs is where


def noise_words(concepts):
    """Filler words that are no whole name or keyword, and made-up words, so that unknown words do no harm."""
    taken = set(concepts.texts) | RELATION_WORDS
    known = [word for word in phrases.FILLERS if word not in taken]
    maker = random.Random(5)
    made_up = [
        "".join(
            maker.choice("bcdfghjklmnprstvwz")
            + maker.choice(["a", "e", "i", "o", "u", "ee", "ou"])
            + maker.choice("   nrstl").strip()
            for _ in range(maker.randint(1, 3))
        )
        for _ in range(600)
    ]
    return known, [word for word in made_up if word not in taken]


class CaptionWriter:
    """Writes one true caption a scene."""

    def __init__(self, entries, tokenizer, device):
        self.device = device
        self.concepts = Concepts(entries, device)
        fragments = Fragments(tokenizer)
        split = phrases.split
        self.concept_fragment = fragments.pool(self.concepts.texts, device)
        self.plural = fragments.pool(
            [text + "s" if text[-1].isalpha() and text[-1] != "s" else text for text in self.concepts.texts], device
        )
        self.starts_with_vowel = torch.tensor([text[0] in "aeiou" for text in self.concepts.texts], device=device)
        known, made_up = noise_words(self.concepts)
        pools = {
            "subject": split(phrases.SUBJECTS),
            "determiner": split(phrases.DETERMINERS),
            "medium_adjective": split(phrases.MEDIA_ADJECTIVES),
            "medium": split(phrases.MEDIA),
            "connector": split(phrases.CONNECTORS),
            "adjective": split(phrases.ADJECTIVES),
            "suffix": split(phrases.SUFFIXES),
            "joiner": split(phrases.JOINERS),
            "noise": known,
            "made_up": made_up,
            "end": [".", "!", "?", "...", ",", ":", ";", ")"],
            "small": split(phrases.SIZES["small"]),
            "big": split(phrases.SIZES["big"]),
        }
        self.pools = {name: fragments.pool(texts, device) for name, texts in pools.items()}
        for name, text in phrases.RELATIONS.items():
            self.pools[name] = fragments.pool(split(text), device)
        self.articles = {text: fragments.add(text) for text in ("a", "an", "the", "one", "this", "some", "my", "that")}
        self.other_articles = fragments.pool(["the", "one", "this", "some", "my", "that"], device)
        self.colour_table = self._table(
            [
                [
                    frame.replace("{}", word)
                    for frame in split(phrases.BACKGROUNDS)
                    for word in phrases.COLOUR_WORDS[colour]
                ]
                for colour in phrases.COLOURS
            ],
            fragments,
        )
        self.position_table = self._table(
            [split(phrases.POSITIONS[column, row]) for row in range(3) for column in range(3)], fragments
        )
        self.count_table = self._table([[""]] + [split(phrases.COUNTS[number]) for number in (1, 2, 3)], fragments)
        self.ids, self.length = fragments.tables(device)

    def _table(self, rows, fragments):
        """Phrases by row, repeated to one width so that a random column is a random phrase."""
        widest = max(map(len, rows))
        return torch.tensor(
            [[fragments.add(row[column % len(row)]) for column in range(widest)] for row in rows], device=self.device
        )

    def write(self, scenes, generator):
        rows = len(scenes.kind)

        def chance(part):
            return torch.rand(rows, device=self.device, generator=generator) < part

        def pick(pool):
            pool = self.pools[pool] if isinstance(pool, str) else pool
            return pool[torch.randint(len(pool), (rows,), device=self.device, generator=generator)]

        def pick_row(table, row):
            return table[row, torch.randint(table.shape[1], (rows,), device=self.device, generator=generator)]

        def maybe(condition, fragment):
            return torch.where(condition, fragment, 0)

        def noise(part):
            return maybe(chance(part), torch.where(chance(0.12), pick("made_up"), pick("noise")))

        kind, twin = scenes.kind, scenes.twin
        swap, counted, coloured = (
            twin == which for which in (scene_types.SWAP_TWIN, scene_types.COUNT_TWIN, scene_types.COLOUR_TWIN)
        )
        one, several = kind == scene_types.ONE, (kind == scene_types.TWO) | (kind == scene_types.THREE)
        plain = chance(0.16)

        # What is said: the names, in one of the orders, all of them or only the first.
        order = torch.rand(rows, scene_types.LAYERS, device=self.device, generator=generator)
        order = torch.where(scenes.glyph < 0, 2.0, order).argsort(1)
        glyph = scenes.glyph.gather(1, order)
        glyph = torch.where((kind == scene_types.COUNT)[:, None] & (torch.arange(3, device=self.device) > 0), -1, glyph)
        only_first = several & chance(0.12) & ~(swap & chance(0.9))
        glyph = torch.where(only_first[:, None] & (torch.arange(3, device=self.device) > 0), -1, glyph)
        keyword_at = (
            torch.rand(glyph.shape, device=self.device, generator=generator)
            * self.concepts.keyword_count[glyph.clamp(min=0)]
        ).long()
        keyword = self.concepts.keyword_table[glyph.clamp(min=0), keyword_at]
        wants_keyword = torch.rand(glyph.shape, device=self.device, generator=generator) < 0.33
        use_keyword = wants_keyword & (self.concepts.keyword_count[glyph.clamp(min=0)] > 0)
        concepts = torch.where(use_keyword, keyword, glyph)
        concepts = torch.where(glyph < 0, -1, concepts)
        said = [self.concept_fragment[concepts[:, layer].clamp(min=0)] for layer in range(3)]
        named = [concepts[:, layer] >= 0 for layer in range(3)]

        # How the first two stand to each other, as the caption's order has it.
        at_first, at_second = (
            torch.stack([scenes.x, scenes.y], -1)[torch.arange(rows, device=self.device), order[:, layer]]
            for layer in (0, 1)
        )
        before = torch.where(scenes.vertical, at_first[:, 1] < at_second[:, 1], at_first[:, 0] < at_second[:, 0])
        related = (kind == scene_types.TWO) & named[1] & chance(0.75)
        relation = torch.where(
            scenes.vertical,
            torch.where(before, pick("above"), pick("below")),
            torch.where(before, pick("left"), pick("right")),
        )
        between = torch.where(related, relation, pick("joiner"))

        # One glyph: size, place, the colour behind it. Counted glyphs: the number.
        says_count = (kind == scene_types.COUNT) & chance(0.9)
        count = torch.where(says_count, scenes.copies, 0)
        plural = says_count & (scenes.copies > 1) & chance(0.6)
        said[0] = torch.where(plural, self.plural[concepts[:, 0].clamp(min=0)], said[0])
        true_colour = scenes.true_colours()
        says_colour = (scenes.colour >= 0) & true_colour & chance(0.12) | coloured & true_colour & chance(0.9)
        colour = torch.where(says_colour, scenes.colour, -1)
        side = scenes.size[:, 0]
        size_word = maybe(one & (side < 0.36), pick("small")) + maybe(one & (side > 0.75), pick("big"))
        size_word = maybe(chance(0.1), size_word)
        column, row = ((at[:, 0] > 0.4).long() + (at[:, 0] > 0.6).long() for at in (scenes.x, scenes.y))
        position = maybe(one & chance(0.1) & (side < 0.7), pick_row(self.position_table, row * 3 + column))

        # The frame around it.
        article = torch.where(
            chance(0.9),
            torch.where(self.starts_with_vowel[concepts[:, 0].clamp(min=0)], self.articles["an"], self.articles["a"]),
            self.articles["a"],
        )
        article = torch.where(chance(0.22), pick(self.other_articles), article)
        has_medium = chance(0.5)
        has_subject = chance(0.45)
        wordy = chance(0.25)  # instead of a sentence: a few random words before the name
        framed = ~wordy & ~plain
        opener = [
            maybe(framed & has_subject, pick("subject")),
            maybe(framed & has_medium & chance(0.9), pick("determiner")),
            maybe(framed & has_medium & chance(0.4), pick("medium_adjective")),
            maybe(framed & has_medium, pick("medium")),
            maybe(framed & has_medium, pick("connector")),
        ]
        loose = [maybe(wordy & ~plain, noise(part)) for part in (0.85, 0.6, 0.4, 0.3, 0.2)]
        loose_before = [maybe(framed, noise(0.06)), *opener, *loose]
        frame = ~plain
        after = [
            maybe(frame & chance(0.12), pick("suffix")),
            maybe(frame, noise(0.1)),
            maybe(frame, noise(0.06)),
            maybe(frame, noise(0.04)),
            maybe(chance(0.15), pick("end")),
        ]
        articles_too = chance(0.7)
        head_article = torch.where(says_count, pick_row(self.count_table, count), maybe(~plain & chance(0.75), article))
        slots = [
            *loose_before,
            head_article,
            maybe(frame & chance(0.08), pick("adjective")),
            size_word,
            said[0],
            maybe(named[1], between),
            maybe(named[1] & articles_too & ~plain, self._article_for(concepts[:, 1])),
            maybe(named[1], said[1]),
            maybe(named[2], pick("joiner")),
            maybe(named[2] & articles_too & ~plain, self._article_for(concepts[:, 2])),
            maybe(named[2], said[2]),
            position,
            maybe(says_colour, pick_row(self.colour_table, colour.clamp(min=0))),
            *after,
        ]
        return Captions(self.assemble(torch.stack(slots, 1)), concepts, colour, count, related)

    def _article_for(self, concept):
        return torch.where(self.starts_with_vowel[concept.clamp(min=0)], self.articles["an"], self.articles["a"])

    def assemble(self, slots):
        """Fragment numbers [n, slots] → token ids [n, CONTEXT]: start, the fragments, end, padded with end."""
        ends = self.length[slots].cumsum(1)
        at = torch.arange(CONTEXT - 2, device=self.device).expand(len(slots), -1).contiguous()
        slot = torch.searchsorted(ends, at, right=True).clamp(max=slots.shape[1] - 1)
        start = (ends - self.length[slots]).gather(1, slot)
        inside = at < ends[:, -1:]
        offset = torch.where(inside, at - start, 0)
        body = torch.where(
            inside, self.ids[slots.gather(1, slot), offset.clamp(max=self.ids.shape[1] - 1)], vocabulary.END
        )
        start_column = torch.full_like(body[:, :1], vocabulary.START)
        return torch.cat([start_column, body, torch.full_like(start_column, vocabulary.END)], 1)


@dataclasses.dataclass
class Facts:
    """What decides whether a caption may be true of a picture, one row a pair; small enough to send between devices."""

    glyph: torch.Tensor  # [n, LAYERS]
    concepts: torch.Tensor  # [n, LAYERS]
    rest: torch.Tensor  # [n, 8]: kind, copies, colour, colours untouched, twin, colour said, count said, relation said

    @classmethod
    def of(cls, scenes, captions):
        rest = torch.stack(
            [
                scenes.kind,
                scenes.copies,
                scenes.colour,
                scenes.true_colours().long(),
                scenes.twin,
                captions.colour,
                captions.count,
                captions.related.long(),
            ],
            1,
        )
        return cls(scenes.glyph, captions.concepts, rest)

    def pack(self):
        return torch.cat([self.glyph, self.concepts, self.rest], 1)

    @classmethod
    def unpack(cls, packed):
        layers = scene_types.LAYERS
        return cls(packed[:, :layers], packed[:, layers : 2 * layers], packed[:, 2 * layers :])

    @property
    def twin(self):
        return self.rest[:, 4] != scene_types.NO_TWIN


def may_be_true(facts, concepts):
    """(possible, possible_name), both [caption, picture] bool.

    possible: the caption is, or for all we know could be, true of the picture: all concepts that it names are there,
    and neither the number nor the colour behind it contradicts it; between swapped twins the relation decides.
    possible_name: the same, but a name is taken to mean only its own emoji where the picture's own caption is made of
    names. "dog" is a keyword of "dog face", and a caption "dog" is no mistake for its picture; but where the choice
    includes "dog face", that must win.
    """
    kind, copies, colour, untouched, twin, said_colour, said_count, said_relation = facts.rest.unbind(1)
    rows = len(kind)
    number = torch.bfloat16 if facts.glyph.is_cuda else torch.float32
    glyph, named = facts.glyph.clamp(min=0), facts.concepts >= 0
    said = torch.zeros(rows, concepts.true.shape[1], dtype=number, device=glyph.device)
    for layer in range(facts.concepts.shape[1]):
        column = facts.concepts[:, layer : layer + 1].clamp(min=0)
        said.scatter_(1, column, torch.maximum(said.gather(1, column), named[:, layer : layer + 1].to(number)))
    needed = said.float().sum(1, keepdim=True) - 0.5
    shown = (facts.glyph >= 0)[..., None]
    possible = said @ (concepts.true[glyph] & shown).any(1).to(number).T >= needed
    strictly = said @ (concepts.strict[glyph] & shown).any(1).to(number).T >= needed
    wrong_colour = (
        (said_colour >= 0)[:, None] & ((untouched > 0) & (colour >= 0))[None] & (said_colour[:, None] != colour[None])
    )
    countable = (kind == scene_types.COUNT) | (kind == scene_types.ONE)
    wrong_count = (said_count > 0)[:, None] & countable[None] & (said_count[:, None] != copies[None])
    agrees = ~(wrong_colour | wrong_count)
    possible, strictly = possible & agrees, strictly & agrees
    index = torch.arange(rows, device=glyph.device)
    other = index ^ 1
    swapped = (twin == scene_types.SWAP_TWIN) & (said_relation > 0)
    by_name = ((facts.concepts < concepts.entries) | ~named).all(1)
    strictly = torch.where(by_name[None], strictly, possible)
    for table in (possible, strictly):
        table[index, other] = torch.where(swapped, False, table[index, other])
        table[index, index] = True
    return possible, strictly
