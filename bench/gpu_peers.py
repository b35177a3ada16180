"""The peer of compare_gpu.py: transformers' CLIPModel with random weights, in the modes that a PyTorch user can choose.

Models are published shapes. Weights are drawn so that vectors of different inputs differ (transformers' own initial
values give nearly one vector for everything, and a check of such vectors would see nothing).
"""
import gc
import json
import statistics
import time

import torch
import transformers
from transformers import CLIPConfig, CLIPModel

transformers.utils.logging.disable_progress_bar()
START, END, CONTEXT = 49406, 49407, 77
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def shape(width, heads, layers, image, patch, text_width, text_heads, text_layers, dim, act="quick_gelu"):
    vision = dict(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads,
                  image_size=image, patch_size=patch, hidden_act=act)
    text = dict(hidden_size=text_width, intermediate_size=4 * text_width, num_hidden_layers=text_layers,
                num_attention_heads=text_heads, hidden_act=act, bos_token_id=START, eos_token_id=END)
    return dict(vision_config=vision, text_config=text, projection_dim=dim)


MODELS = {
    "B-32": shape(768, 12, 12, 224, 32, 512, 8, 12, 512),
    "L-14": shape(1024, 16, 24, 224, 14, 768, 12, 12, 768),
    "L-14-336": shape(1024, 16, 24, 336, 14, 768, 12, 12, 768),
    "H-14": shape(1280, 16, 32, 224, 14, 1024, 16, 24, 1024, "gelu"),
    "tiny": shape(128, 2, 2, 64, 16, 64, 1, 2, 64),  # for a look at the script itself, on any machine
}
MODES = {  # name: (attention, type, tf32, compiled)
    "torch fp32 eager": ("eager", torch.float32, False, False),
    "torch tf32 sdpa": ("sdpa", torch.float32, True, False),
    "torch fp16 sdpa": ("sdpa", torch.float16, False, False),
    "torch fp16 compile": ("sdpa", torch.float16, False, True),
    "torch fp8 compile": ("sdpa", torch.bfloat16, False, True),  # bfloat16 is what rows with scales are multiplied to
}


class EightBitLinear(torch.nn.Module):
    """x W^T + b with both in E4M3: a scale for every output and, found as it comes, for every row of x."""

    def __init__(self, linear):
        super().__init__()
        scale = linear.weight.float().abs().amax(1, keepdim=True) / 448
        self.weight = (linear.weight.float() / scale).to(torch.float8_e4m3fn).t()
        self.scale, self.bias, self.outputs = scale.t().contiguous(), linear.bias, linear.out_features

    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        scale = rows.float().abs().amax(1, keepdim=True).clamp(min=1e-12) / 448
        out = torch._scaled_mm((rows.float() / scale).to(torch.float8_e4m3fn), self.weight, scale, self.scale, bias=self.bias,
                               out_dtype=torch.bfloat16, use_fast_accum=True)
        return out.reshape(*x.shape[:-1], self.outputs)


def to_eight_bits(model):
    """The linear layers of both towers' blocks, in place."""
    for tower in (model.vision_model, model.text_model):
        for parent in list(tower.encoder.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, torch.nn.Linear):
                    setattr(parent, name, EightBitLinear(child))


def set_tf32(on):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = on


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


@torch.no_grad()
def save_model(name, folder, device, dtype=torch.float16):
    """A Hugging Face folder with random weights of that shape; returns the bytes of the weights of both towers."""
    config = CLIPConfig(**MODELS[name])
    torch.manual_seed(0)
    with torch.device(device):
        model = CLIPModel(config)
    for name_, p in model.named_parameters():
        tower = config.vision_config if name_.startswith("vision") else config.text_config
        if name_ == "logit_scale":
            p.fill_(4.6052)
        elif "norm" in name_ or "layrnorm" in name_:
            p.normal_(1 if name_.endswith("weight") else 0, 0.1 if name_.endswith("weight") else 0.02)
        elif name_.endswith("bias"):
            p.normal_(0, 0.02)
        elif "embedding" in name_ and "patch" not in name_:
            p.normal_(0, 0.5)
        else:
            fan_in = p[0].numel()
            residual = "out_proj" in name_ or "fc2" in name_
            p.normal_(0, (fan_in * (2 * tower.num_hidden_layers if residual else 1)) ** -0.5)
    model = model.to(dtype)
    model.save_pretrained(folder)
    side = config.vision_config.image_size
    with open(f"{folder}/preprocessor_config.json", "w") as f:
        json.dump({"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}, f)
    sizes = {tower: sum(p.numel() * p.element_size() for n, p in model.named_parameters() if n.startswith(tower))
             for tower in ("vision", "text")}
    del model
    release(device)
    return sizes


def release(device):
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def normalized(pixels, device, dtype):
    """uint8 [N, S, S, 3] as the towers take them: [N, 3, S, S]."""
    x = torch.as_tensor(pixels).to(device).permute(0, 3, 1, 2).float()
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (MEAN, STD))
    return ((x / 255 - mean) / std).to(dtype).contiguous()


class Peer:
    """One mode of the peer. Times are milliseconds of a call, with the device synchronised before and after it."""

    def __init__(self, folder, mode, device="cuda"):
        attention, dtype, self.tf32, compiled = MODES[mode]
        self.device, self.dtype = device, dtype if device == "cuda" else torch.float32
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            self.base = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        self.model = CLIPModel.from_pretrained(folder, attn_implementation=attention, dtype=self.dtype).eval().to(device)
        if mode == "torch fp8 compile":
            to_eight_bits(self.model)
        self.calls = {"image": self.image, "text": self.text, "both": self.both}
        if compiled:
            torch._dynamo.config.cache_size_limit = 64
            # reduce-overhead captures CUDA graphs
            self.calls = {n: torch.compile(f, mode="reduce-overhead", dynamic=False) for n, f in self.calls.items()}

    def image(self, pixels, ids):
        return self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)

    def text(self, pixels, ids):
        return self.model.text_projection(self.model.text_model(input_ids=ids).pooler_output)

    def both(self, pixels, ids):
        out = self.model(input_ids=ids, pixel_values=pixels)
        return out.image_embeds, out.text_embeds, out.logits_per_image

    def take(self, what, pixels, ids):
        """The inputs of the calls to come: uint8 pixels and token ids padded to one length, or None."""
        self.what = what
        self.pixels = None if pixels is None else normalized(pixels, self.device, self.dtype)
        self.ids = None if ids is None else torch.as_tensor(ids).long().to(self.device)
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()  # making the inputs is not the peer's work

    def call(self):
        set_tf32(self.tf32)
        with torch.inference_mode():
            return self.calls[self.what](self.pixels, self.ids)

    def vectors(self):
        """What one call gives, as float64 on the host: {"image_embeds": …, "text_embeds": …}."""
        out = self.call()
        rows = out if self.what == "both" else [out]
        names = ["text_embeds"] if self.what == "text" else ["image_embeds", "text_embeds"]
        return {n: v.double().cpu() for n, v in zip(names, rows)}

    def peak_bytes(self):
        """The most that torch had allocated for this peer since it was made, weights and inputs included."""
        return torch.cuda.max_memory_allocated() - self.base if self.device == "cuda" else None

    def once(self):
        begin = time.perf_counter()
        self.call()
        synchronize(self.device)
        return 1e3 * (time.perf_counter() - begin)

    def time(self, seconds, warmup=4, runs=10):
        """Mean of a burst of `runs` calls where seconds is 0; otherwise load for so long, then the median of as much."""
        synchronize(self.device)
        if seconds == 0:
            for _ in range(warmup):
                self.once()
            return statistics.mean(self.once() for _ in range(runs))
        for _ in range(2):
            end, times = time.perf_counter() + seconds, []
            while time.perf_counter() < end or not times:
                times.append(self.once())
        return statistics.median(times)


@torch.inference_mode()
def reference(folder, device, pixels=None, ids=None, chunk=32):
    """Vectors in true float32 from eager attention: {"image_embeds": …, "text_embeds": …}, float64 on the host."""
    set_tf32(False)
    model = CLIPModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval().to(device)
    out = {}
    if pixels is not None:
        rows = [model.visual_projection(model.vision_model(pixel_values=normalized(p, device, torch.float32)).pooler_output)
                for p in torch.as_tensor(pixels).split(chunk)]
        out["image_embeds"] = torch.cat(rows).double().cpu()
    if ids is not None:
        rows = [model.text_projection(model.text_model(input_ids=i.long().to(device)).pooler_output)
                for i in torch.as_tensor(ids).split(8 * chunk)]
        out["text_embeds"] = torch.cat(rows).double().cpu()
    del model
    release(device)
    return out
