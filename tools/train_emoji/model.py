"""CLIP's two towers, small. The same arithmetic as transformers.CLIPModel, with query, key and value in one matrix."""

import math

import torch
import torch.nn.functional as functional
from torch import nn

import vocabulary

IMAGE_SIDE, PATCH, CONTEXT, EMBED = 128, 16, 32, 256
VISION = {"width": 256, "layers": 6, "heads": 4}
TEXT = {"width": 192, "layers": 4, "heads": 3}
EPSILON = 1e-5
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class Block(nn.Module):
    def __init__(self, width, heads, layers, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(width, EPSILON), nn.LayerNorm(width, EPSILON)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        for linear, spread in (
            (self.qkv, width**-0.5),
            (self.out, (2 * layers * width) ** -0.5),
            (self.fc1, (2 * width) ** -0.5),
            (self.fc2, (2 * layers * width) ** -0.5),
        ):
            nn.init.normal_(linear.weight, std=spread)
            nn.init.zeros_(linear.bias)

    def forward(self, x):
        rows, tokens, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(rows, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(seen.transpose(1, 2).reshape(rows, tokens, width))
        hidden = self.fc1(self.norm2(x))
        return x + self.fc2(hidden * torch.sigmoid(1.702 * hidden))


class Clip(nn.Module):
    """encode_image: pixels [n, 3, 128, 128] in 0..1; encode_text: ids [n, 32]; both: unit rows [n, 256], float32."""

    def __init__(self):
        super().__init__()
        width, text_width = VISION["width"], TEXT["width"]
        self.patch = nn.Linear(3 * PATCH * PATCH, width, bias=False)
        self.class_token = nn.Parameter(torch.randn(width) * width**-0.5)
        self.image_position = nn.Parameter(torch.randn(1 + (IMAGE_SIDE // PATCH) ** 2, width) * width**-0.5)
        self.norm_pre, self.norm_post = nn.LayerNorm(width, EPSILON), nn.LayerNorm(width, EPSILON)
        self.vision = nn.ModuleList(
            Block(width, VISION["heads"], VISION["layers"], False) for _ in range(VISION["layers"])
        )
        self.image_projection = nn.Linear(width, EMBED, bias=False)
        self.token = nn.Embedding(vocabulary.VOCABULARY, text_width)
        self.text_position = nn.Parameter(torch.randn(CONTEXT, text_width) * 0.01)
        self.text = nn.ModuleList(Block(text_width, TEXT["heads"], TEXT["layers"], True) for _ in range(TEXT["layers"]))
        self.norm_final = nn.LayerNorm(text_width, EPSILON)
        self.text_projection = nn.Linear(text_width, EMBED, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        nn.init.normal_(self.patch.weight, std=(3 * PATCH * PATCH) ** -0.5)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.image_projection.weight, std=width**-0.5)
        nn.init.normal_(self.text_projection.weight, std=text_width**-0.5)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def encode_image(self, pixels):
        rows, side = len(pixels), IMAGE_SIDE // PATCH
        pixels = ((pixels - self.mean) / self.std).view(rows, 3, side, PATCH, side, PATCH)
        x = self.patch(pixels.permute(0, 2, 4, 1, 3, 5).reshape(rows, side * side, -1))
        x = torch.cat([self.class_token.to(x.dtype).expand(rows, 1, -1), x], 1) + self.image_position
        x = self.norm_pre(x)
        for block in self.vision:
            x = block(x)
        return functional.normalize(self.image_projection(self.norm_post(x[:, 0])).float(), dim=-1)

    def encode_text(self, ids):
        x = self.token(ids) + self.text_position
        for block in self.text:
            x = block(x)
        end = (ids == vocabulary.END).int().argmax(1)
        x = x[torch.arange(len(ids), device=ids.device), end]
        return functional.normalize(self.text_projection(self.norm_final(x)).float(), dim=-1)

    def block_matrices(self):
        """The matrices inside blocks, which Muon trains, with the number of matrices that each holds side by side."""
        for block in [*self.vision, *self.text]:
            yield block.qkv.weight, 3
            yield block.out.weight, 1
            yield block.fc1.weight, 1
            yield block.fc2.weight, 1


def contrastive_loss(image, text, scale, possible, possible_name, twin):
    """Symmetric InfoNCE without the pairs that may be true, and a two-way loss on twins.

    image, text [n, e] unit rows; possible, possible_name [caption, picture] bool with a true diagonal, for choosing the
    picture and for choosing the caption; twin [n] bool: the row's neighbour is the same picture but for one thing.
    """
    rows = len(image)
    logits = text @ image.T * scale
    index = torch.arange(rows, device=image.device)
    others = index[:, None] != index[None]
    own = logits.diagonal()
    for_picture = torch.logsumexp(torch.where(possible & others, float("-inf"), logits), 1)
    for_caption = torch.logsumexp(torch.where(possible_name & others, float("-inf"), logits), 0)
    loss = (for_picture - own).mean() / 2 + (for_caption - own).mean() / 2
    other = index ^ 1
    # Where the caption tells the twins apart, the right picture (and for a picture, the right caption) must win.
    tells = (twin & ~possible[index, other]).float()
    rival_picture, rival_caption = logits[index, other], logits[other, index]
    fooled = tells[other]
    two_way = (functional.softplus(rival_picture - own) * tells).sum() / tells.sum().clamp(min=1)
    two_way = two_way + (functional.softplus(rival_caption - own) * fooled).sum() / fooled.sum().clamp(min=1)
    return loss + 0.5 * two_way / 2
