"""What is in a picture: which glyphs, where, how large, on what background. Sampled in bulk on the device.

Rows come in pairs (2i, 2i+1). In a "twin" pair both rows hold the same glyphs and differ in exactly one thing that a
caption can say: who stands left or above (swap), how many there are (count), or the colour behind them (colour).
"""

import dataclasses
import re

import torch

import phrases

LAYERS = 3
ONE, COUNT, TWO, THREE = range(4)
NO_TWIN, SWAP_TWIN, COUNT_TWIN, COLOUR_TWIN = range(4)
SOLID, GRADIENT, NOISE, SPLIT, CLUTTER = range(5)
PLAIN, GREY, HUE, POSTER, EDGE, INK = range(6)  # what is done to the finished picture's colours

COLOUR_TABLE = torch.tensor(list(phrases.COLOURS.values()), dtype=torch.float32) / 255
WHITE = list(phrases.COLOURS).index("white")
BLACK = list(phrases.COLOURS).index("black")
GREY_COLOUR = list(phrases.COLOURS).index("grey")

COLOUR_NAMES = re.compile(r"\b(red|orange|yellow|green|blue|purple|pink|brown|black|white|grey|light)\b")
SIDED = re.compile(
    r"left|right|first|last|quarter|crescent|arrow|magnifying|clock|button|sign|east|west|"
    r"thirty|letter|symbol|keycap|back|fast|play|rewind|forward|hundred|scroll|memo|pencil"
)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How hard pictures are. Probabilities unless said otherwise."""

    kinds: tuple = (0.50, 0.08, 0.33, 0.09)  # one glyph, the same glyph counted, two, three
    size: tuple = (0.18, 1.05)  # a single glyph's side as a part of the picture's
    size_power: float = 1.25  # above 1: more small ones
    backgrounds: tuple = (0.35, 0.20, 0.15, 0.15, 0.15)  # solid, gradient, noise, split, clutter
    white: float = 0.35  # of the solid backgrounds
    angle: float = 18.0  # degrees, either way
    aspect: float = 0.16
    shear: float = 0.12
    flip: float = 0.3
    gain: float = 0.22  # colour gain of each glyph
    warp: float = 0.3  # part of the pictures that are bent like rubber
    effects: tuple = (0.0, 0.14, 0.06, 0.03, 0.05, 0.03)  # (the rest plain), grey, hue, posterised, edges, ink
    blur: float = 0.35
    noise: float = 0.3
    tone: float = 0.6
    jpeg: float = 0.5
    jpeg_quality: tuple = (25, 95)
    second_hand: float = 0.09  # another drawing of the same name, where there is one
    twins: bool = True


# One glyph on its own, whole and unbent, in its own colours: what the test pictures have in common.
TEST = Recipe(kinds=(1, 0, 0, 0), size_power=1, flip=0, warp=0, effects=(0,) * 6, second_hand=0, twins=False)
EASY = dataclasses.replace(
    TEST,
    size=(0.6, 0.95),
    backgrounds=(1, 0, 0, 0, 0),
    angle=0,
    aspect=0,
    shear=0,
    gain=0,
    blur=0,
    noise=0,
    tone=0,
    jpeg=0,
)
MEDIUM = dataclasses.replace(
    TEST,
    size=(0.35, 0.95),
    angle=10,
    aspect=0.1,
    shear=0.05,
    gain=0.1,
    blur=0.25,
    noise=0.25,
    tone=0.4,
    jpeg_quality=(50, 95),
)
HARD = dataclasses.replace(
    TEST,
    size=(0.18, 0.5),
    backgrounds=(0.1, 0.15, 0.25, 0.2, 0.3),
    blur=0.5,
    noise=0.5,
    tone=0.8,
    jpeg=0.8,
    jpeg_quality=(25, 80),
)
GREY_MEDIUM = dataclasses.replace(MEDIUM, effects=(0, 1, 0, 0, 0, 0))
PAIRS = dataclasses.replace(MEDIUM, kinds=(0, 0, 1, 0), twins=True)
MANY = dataclasses.replace(MEDIUM, kinds=(0, 0, 0.7, 0.3))


@dataclasses.dataclass
class Scenes:
    """Tensors with one row a picture; `[n, LAYERS]` where a glyph is meant, -1 where there is none."""

    glyph: torch.Tensor  # [n, L] entry
    drawing: torch.Tensor  # [n, L] tile of the pack
    x: torch.Tensor  # [n, L] centre, 0..1
    y: torch.Tensor
    size: torch.Tensor  # [n, L] side, 1 = the picture's
    kind: torch.Tensor  # [n]
    copies: torch.Tensor  # [n] how many glyphs are drawn
    vertical: torch.Tensor  # [n] bool: two glyphs stand above each other
    background: torch.Tensor  # [n] type
    colour: torch.Tensor  # [n] index into COLOURS of a solid background, else -1
    twin: torch.Tensor  # [n] twin type of the row's pair
    effect: torch.Tensor  # [n]
    background_rows: list  # rows by background type, before twins had their say
    effect_rows: list  # rows by effect

    def true_colours(self):
        """[n] bool: nothing was done to the picture's colours that would make a named background colour untrue."""
        return (self.effect == PLAIN) | (self.effect == POSTER)


class SceneSampler:
    """Draws Scenes; everything random comes from `generator`, so that (seed, step) gives the same pictures."""

    def __init__(self, entries, owner, kinds, device):
        self.device = device
        self.entries = len(entries)
        owner_of = torch.tensor(owner)
        count = torch.bincount(owner_of, minlength=self.entries)
        table = torch.full((self.entries, int(count.max())), -1)
        filled = [0] * self.entries
        order = sorted(range(len(owner)), key=lambda tile: (kinds[tile] != "noto", kinds[tile] == "tone"))
        for tile in order:
            table[owner[tile], filled[owner[tile]]] = tile
            filled[owner[tile]] += 1
        self.drawings = table.to(device)
        self.drawing_count = count.to(device)
        self.colour_bound = torch.tensor(
            [bool(COLOUR_NAMES.search(entry["name"])) or entry["name"].startswith("flag of") for entry in entries],
            device=device,
        )
        self.may_flip = torch.tensor(
            [
                entry["group"]
                in (
                    "Smileys & Emotion",
                    "Animals & Nature",
                    "Food & Drink",
                    "Travel & Places",
                    "Activities",
                    "People & Body",
                )
                and not SIDED.search(" ".join([entry["name"], *entry["keywords"]]))
                for entry in entries
            ],
            device=device,
        )
        self.colours = COLOUR_TABLE.to(device)

        self.constants = {}

    def _constant(self, values):
        """A small tensor on the device, sent only once: every sending would wait for the device."""
        if values not in self.constants:
            self.constants[values] = torch.tensor(values, dtype=torch.float32, device=self.device)
        return self.constants[values]

    def sample(self, rows, recipe, generator, glyphs=None):
        """`rows` scenes (an even number). `glyphs` [rows] fixes the first glyph of each (evaluation)."""

        def uniform(*shape, low=0.0, high=1.0):
            return torch.rand(shape, device=self.device, generator=generator) * (high - low) + low

        def choose(weights, count):
            edges = self._constant(tuple(weights)).cumsum(0)
            return torch.searchsorted(edges / edges[-1], uniform(count).clamp(max=1 - 1e-6), right=True).clamp(
                max=len(weights) - 1
            )

        def shares(parts):
            """The rows split at random in fixed numbers (fixed shapes, no waiting): types, and rows by type."""
            order = torch.rand(rows, device=self.device, generator=generator).argsort()
            edges = [round(rows * sum(parts[:index]) / sum(parts)) for index in range(len(parts) + 1)]
            rows_of = [order[low:high] for low, high in zip(edges, edges[1:])]
            types = torch.zeros(rows, dtype=torch.long, device=self.device)
            for index, chosen in enumerate(rows_of):
                types[chosen] = index
            return types, rows_of

        def paired(values):
            return values.repeat_interleave(2, 0)

        pairs = rows // 2
        kind = paired(choose(recipe.kinds, pairs))
        chance = paired(uniform(pairs))
        twin = torch.zeros(rows, dtype=torch.long, device=self.device)
        if recipe.twins:
            twin = torch.where((kind == TWO) & (chance < 0.6), SWAP_TWIN, twin)
            twin = torch.where(kind == COUNT, COUNT_TWIN, twin)
            twin = torch.where((kind == ONE) & (chance < 0.1), COLOUR_TWIN, twin)

        glyph = torch.randint(self.entries, (rows, LAYERS), device=self.device, generator=generator)
        if glyphs is not None:
            glyph[:, 0] = glyphs
        for layer in (1, 2):  # glyphs of one picture differ (a rare second clash only makes a pair of equals)
            clash = (glyph[:, layer : layer + 1] == glyph[:, :layer]).any(1)
            glyph[:, layer] = torch.where(clash, (glyph[:, layer] + 7) % self.entries, glyph[:, layer])
        second = torch.arange(rows, device=self.device) % 2 == 1
        from_first = glyph[0::2].repeat_interleave(2, 0)
        is_twin = second & (twin != NO_TWIN)
        glyph = torch.where(is_twin[:, None], from_first, glyph)
        swapped = second & (twin == SWAP_TWIN)
        glyph[:, :2] = torch.where(swapped[:, None], glyph[:, :2].flip(1), glyph[:, :2])

        copies = self._constant((1.0, 0.0, 2.0, 3.0))[kind].long()
        counted = torch.randint(1, 4, (rows,), device=self.device, generator=generator)
        other = (
            paired(counted[0::2]) - 1 + torch.randint(1, 3, (rows,), device=self.device, generator=generator)
        ) % 3 + 1
        counted = torch.where(second & (twin == COUNT_TWIN), other, counted)
        copies = torch.where(kind == COUNT, counted, copies)
        glyph = torch.where((kind == COUNT)[:, None], glyph[:, :1], glyph)

        vertical = paired(uniform(pairs) < 0.4)
        x, y, size = self._place(rows, kind, copies, vertical, recipe, uniform)
        present = torch.arange(LAYERS, device=self.device)[None] < copies[:, None]
        glyph = torch.where(present, glyph, -1)

        first = self.drawings[glyph.clamp(min=0), 0]
        count = self.drawing_count[glyph.clamp(min=0)]
        pick = (uniform(rows, LAYERS) * (count - 1)).long() + 1
        more = self.drawings[glyph.clamp(min=0), pick.clamp(max=self.drawings.shape[1] - 1)]
        use_more = (uniform(rows, LAYERS) < recipe.second_hand) & (count > 1)
        drawing = torch.where(use_more, more, first)

        background, background_rows = shares(recipe.backgrounds)
        background = torch.where(twin == COLOUR_TWIN, SOLID, background)
        colour = torch.randint(len(self.colours), (rows,), device=self.device, generator=generator)
        colour = torch.where(uniform(rows) < recipe.white, WHITE, colour)
        shifted = (
            paired(colour[0::2]) + torch.randint(1, len(self.colours), (rows,), device=self.device, generator=generator)
        ) % len(self.colours)
        colour = torch.where(second & (twin == COLOUR_TWIN), shifted, colour)
        colour = torch.where(background == SOLID, colour, -1)

        effect, effect_rows = shares([1 - sum(recipe.effects[1:]), *recipe.effects[1:]])
        return Scenes(
            glyph,
            drawing,
            x,
            y,
            size,
            kind,
            copies,
            vertical,
            background,
            colour,
            twin,
            effect,
            background_rows,
            effect_rows,
        )

    def _place(self, rows, kind, copies, vertical, recipe, uniform):
        low, high = recipe.size
        side = low + (high - low) * uniform(rows) ** recipe.size_power
        room = ((1 - side) / 2).clamp(min=0.02) * (uniform(rows) > 0.3)
        x, y = (torch.full((rows, LAYERS), 0.5, device=self.device) for _ in range(2))
        size = torch.ones(rows, LAYERS, device=self.device)
        one_x, one_y = (0.5 + room * uniform(rows, low=-1, high=1) for _ in range(2))

        slot = torch.arange(LAYERS, device=self.device)[None].float()
        many = copies.clamp(min=2)[:, None].float()
        along = (slot + 0.5) / many + uniform(rows, LAYERS, low=-0.05, high=0.05)
        across = 0.5 + uniform(rows, LAYERS, low=-0.2, high=0.2)
        # Sides that keep neighbours from hiding each other: they stand 1/many apart.
        several = (0.55 + 0.5 * uniform(rows, LAYERS)) / many
        several = torch.where(
            (kind == COUNT)[:, None], several[:, :1] * uniform(rows, LAYERS, low=0.92, high=1.08), several
        )
        several = several.clamp(min=0.2)
        upright = vertical[:, None]
        single = (copies == 1)[:, None]
        x = torch.where(single, one_x[:, None].expand_as(x), torch.where(upright, across, along))
        y = torch.where(single, one_y[:, None].expand_as(y), torch.where(upright, along, across))
        size = torch.where(single, side[:, None].expand_as(size), several)
        return x, y, size
