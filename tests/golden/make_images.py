#!/usr/bin/env python3
"""Makes tests/golden/images: small pictures in every format and mode, and what the references make of their pixels.

Needs Pillow, numpy, torch, torchvision and transformers; the tests need only what this wrote. Run it from anywhere:

    python tests/golden/make_images.py

The manifest holds, for every file, size and checksum of Pillow's convert("RGB") (as stored, and turned upright by
ImageOps.exif_transpose), and a checksum of the crop in each reference, as [reference, filter, crop side (0: no crop), resize (shorter side, [height, width] or null),
[width, height], checksum]: `hf` is transformers' PIL image processor,
`hf-fast` its torchvision one, `openai` torchvision's Resize and CenterCrop on a PIL image. A checksum is CRC-32 and
Adler-32 of the bytes, in hex. `grids` are the same for pictures that the test computes itself (see grid()), in sizes
that files would be too large for. Everything is seeded: a second run changes nothing unless a library did.
"""

import io
import json
import pathlib
import struct
import warnings
import zlib

import numpy as np
import PIL
import torch
import torchvision
import transformers
from PIL import Image, ImageOps, PngImagePlugin
from torchvision.transforms import functional as TF
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

OUT = pathlib.Path(__file__).resolve().parent / "images"
warnings.simplefilter("ignore")
torch.set_num_threads(1)
rng = np.random.default_rng(20240229)


def checksum(array):
    data = np.ascontiguousarray(array).tobytes()
    return f"{zlib.crc32(data):08x}{zlib.adler32(data):08x}"


def picture(width, height, channels=3):
    """Smooth colours with edges and a little noise: something that codecs treat as they would a photograph."""
    coarse = rng.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    planes = [Image.fromarray(coarse[..., c]).resize((width, height), Image.BICUBIC) for c in range(channels)]
    smooth = np.stack([np.asarray(p, float) for p in planes], -1)
    smooth[height // 3 : height // 2, width // 4 : width // 2] = 255 - smooth[height // 3 : height // 2, width // 4 : width // 2]
    return np.clip(smooth + rng.normal(0, 5, smooth.shape), 0, 255).astype(np.uint8)


# ---- writers for what Pillow does not write -------------------------------------------------------------------------


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(samples, depth, color, palette=None, transparency=None, interlaced=False, extra=b""):
    """samples: [height, width, channels] integers below 2**depth."""
    height, width, channels = samples.shape
    step = max(1, channels * depth // 8)

    def rows(part):
        packed, before = b"", None
        for number, row in enumerate(part):
            values = row.reshape(-1)
            if depth == 16:
                raw = np.frombuffer(values.astype(">u2").tobytes(), np.uint8).astype(int)
            elif depth == 8:
                raw = values.astype(int)
            else:
                bits = np.unpackbits(values.astype(np.uint8)[:, None], axis=1)[:, 8 - depth :]
                raw = np.packbits(bits.reshape(-1)).astype(int)
            left = np.concatenate([np.zeros(step, int), raw[:-step]])[: len(raw)]
            above = before if before is not None else 0
            kind = number % 3
            packed += bytes([kind]) + ((raw - (0, left, above)[kind]) % 256).astype(np.uint8).tobytes()
            before = raw
        return packed

    if interlaced:
        parts = [samples[y::dy, x::dx] for x, y, dx, dy in ADAM7]
        body = b"".join(rows(p) for p in parts if p.shape[0] and p.shape[1])
    else:
        body = rows(samples)
    out = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced))
    out += extra
    if palette is not None:
        out += png_chunk(b"PLTE", palette)
    if transparency is not None:
        out += png_chunk(b"tRNS", transparency)
    return out + png_chunk(b"IDAT", zlib.compress(body, 9)) + png_chunk(b"IEND", b"")


def bmp(width, height, bits, data, compression=0, palette=b"", masks=(), header=40, top_down=False):
    extra = struct.pack("<" + "I" * len(masks), *masks)
    info = struct.pack("<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression, len(data),
                       2835, 2835, len(palette) // 4, 0)
    if header > 40:
        info += extra.ljust(header - 40, b"\0")
        extra = b""
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    start = 14 + len(info) + len(extra) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + info + extra + palette + data


def bmp_rows(width, height, bits):
    return rng.integers(0, 256, height * ((width * bits + 31) // 32 * 4), dtype=np.uint8).tobytes()


def bmp_runs(width, height, four):
    data = b""
    for row in range(height):
        x = 0
        while x < width:
            n = int(min(width - x, rng.integers(1, 12)))
            if n < 3 or rng.random() < 0.5:
                data += bytes([n, int(rng.integers(0, 256))])
            else:
                literal = rng.integers(0, 256, (n + 1) // 2 if four else n, dtype=np.uint8).tobytes()
                data += bytes([0, n]) + literal + b"\0" * (len(literal) % 2)
            x += n
            if row % 5 == 2 and x > width // 2:
                break
        data += b"\0\0"
    return data + b"\0\1"


def gif(width, height, frame, table=None, local=None, transparent=None, interlaced=False):
    """frame: (left, top, right, bottom). Literal codes only, the table is cleared before codes grow."""
    left, top, right, bottom = frame
    bits = 4
    indices = rng.integers(0, 1 << bits, (right - left) * (bottom - top))
    clear, size, value, filled, packed = 1 << bits, bits + 1, 0, 0, bytearray()
    codes = []
    for i, index in enumerate(indices):
        if i % (1 << (bits - 1)) == 0:
            codes.append(clear)
        codes.append(int(index))
    for code in codes + [clear + 1]:
        value |= code << filled
        filled += size
        while filled >= 8:
            packed.append(value & 255)
            value >>= 8
            filled -= 8
    if filled:
        packed.append(value & 255)
    blocks = b"".join(bytes([len(packed[i : i + 255])]) + bytes(packed[i : i + 255]) for i in range(0, len(packed), 255))
    out = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80 | 3 if table else 0, 0, 0) + (table or b"")
    if transparent is not None:
        out += b"!\xf9\x04" + bytes([1, 0, 0, transparent]) + b"\0"
    flags = (0x80 | 3 if local else 0) | (0x40 if interlaced else 0)
    out += b"," + struct.pack("<HHHHB", left, top, right - left, bottom - top, flags) + (local or b"")
    return out + bytes([bits]) + blocks + b"\0;"


# ---- the files ------------------------------------------------------------------------------------------------------


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def orientation(value):
    tags = Image.Exif()
    tags[0x0112] = value
    return tags.tobytes()


def with_sampling(jpeg, factors, width, height):
    """The same blocks under another luma sampling factor and size: for layouts that Pillow does not write. The number
    of blocks per unit, and of units, must not change."""
    at = jpeg.index(b"\xff\xc0")
    return (jpeg[: at + 5] + struct.pack(">HH", height, width) + jpeg[at + 9 : at + 11] + bytes([factors])
            + jpeg[at + 12 :])


def jpeg_files():
    rgb = Image.fromarray(picture(83, 61))
    for name, sampling in (("444", "4:4:4"), ("422", "4:2:2"), ("420", "4:2:0")):
        yield f"rgb_{name}.jpg", saved(rgb, "JPEG", quality=80, subsampling=sampling)
    yield "rgb_440.jpg", with_sampling(saved(rgb, "JPEG", quality=80, subsampling="4:2:2"), 0x12, 61, 83)
    square = saved(Image.fromarray(picture(64, 64)), "JPEG", quality=80, subsampling="4:2:0")
    yield "rgb_411.jpg", with_sampling(square, 0x41, 127, 31)
    yield "rgb_114.jpg", with_sampling(square, 0x14, 30, 126)
    yield "rgb_q30.jpg", saved(rgb, "JPEG", quality=30)
    yield "rgb_progressive.jpg", saved(rgb, "JPEG", quality=85, progressive=True)
    yield "rgb_restart.jpg", saved(rgb, "JPEG", quality=75, restart_marker_blocks=3)
    yield "rgb_not_ycc.jpg", saved(rgb, "JPEG", quality=90, keep_rgb=True, subsampling="4:4:4")
    yield "grey.jpg", saved(rgb.convert("L"), "JPEG", quality=80)
    yield "grey_progressive.jpg", saved(rgb.convert("L"), "JPEG", quality=80, progressive=True)
    inks = Image.fromarray(picture(53, 67, 4), "CMYK")
    cmyk = saved(inks, "JPEG", quality=85)
    yield "cmyk.jpg", cmyk
    at = cmyk.index(b"Adobe") + 11
    yield "ycck.jpg", cmyk[:at] + b"\2" + cmyk[at + 1 :]
    yield "wide.jpg", saved(Image.fromarray(picture(401, 97)), "JPEG", quality=70)
    yield "tall.jpg", saved(Image.fromarray(picture(97, 401)), "JPEG", quality=70)
    yield "tall_progressive.jpg", saved(Image.fromarray(picture(131, 300)), "JPEG", quality=70, progressive=True)
    for width, height in ((1, 1), (1, 37), (41, 1), (17, 9)):
        yield f"size_{width}x{height}.jpg", saved(Image.fromarray(picture(width, height)), "JPEG", quality=90)
    for value in range(1, 9):
        yield f"exif_{value}.jpg", saved(Image.fromarray(picture(37, 23)), "JPEG", quality=85, exif=orientation(value))
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    yield "exif_in_xmp.jpg", saved(Image.fromarray(picture(37, 23)), "JPEG", quality=85, xmp=xmp)


def png_files():
    def noise(width, height, channels, depth):
        return rng.integers(0, 1 << depth, (height, width, channels))

    for depth in (1, 2, 4, 8, 16):
        yield f"grey{depth}.png", png(noise(29, 19, 1, depth), depth, 0)
    yield "grey16_dark.png", png(rng.integers(0, 300, (19, 29, 1)), 16, 0)
    for depth in (1, 8, 16):
        yield f"grey{depth}_interlaced.png", png(noise(29, 19, 1, depth), depth, 0, interlaced=True)
    yield "grey8_transparent.png", png(noise(29, 19, 1, 3), 8, 0, transparency=struct.pack(">H", 3))
    for depth in (8, 16):
        yield f"grey_alpha{depth}.png", png(noise(23, 31, 2, depth), depth, 4)
        yield f"rgb{depth}.png", png(noise(23, 31, 3, depth), depth, 2)
        yield f"rgba{depth}.png", png(noise(23, 31, 4, depth), depth, 6)
        yield f"rgba{depth}_interlaced.png", png(noise(23, 31, 4, depth), depth, 6, interlaced=True)
    yield "rgb8_interlaced.png", png(noise(23, 31, 3, 8), 8, 2, interlaced=True)
    yield "rgb8_transparent.png", png(noise(23, 31, 3, 1), 8, 2, transparency=struct.pack(">HHH", 1, 0, 1))
    for depth in (1, 2, 4, 8):
        colors = rng.integers(0, 256, 3 << depth, dtype=np.uint8).tobytes()
        yield f"palette{depth}.png", png(noise(27, 21, 1, depth), depth, 3, colors)
    colors = rng.integers(0, 256, 48, dtype=np.uint8).tobytes()
    alphas = rng.integers(0, 256, 9, dtype=np.uint8).tobytes()
    yield "palette4_alphas.png", png(noise(27, 21, 1, 4), 4, 3, colors, alphas)
    yield "palette4_one_transparent.png", png(noise(27, 21, 1, 4), 4, 3, colors, b"\xff\0\xff")
    yield "palette4_interlaced.png", png(noise(27, 21, 1, 4), 4, 3, colors, interlaced=True)
    yield "palette8_short.png", png(noise(27, 21, 1, 8), 8, 3, colors)
    gamma = png_chunk(b"gAMA", struct.pack(">I", 30000))
    yield "gamma.png", png(noise(23, 31, 3, 8), 8, 2, extra=gamma)
    smooth = np.asarray(Image.fromarray(picture(25, 3)).resize((5000, 3), Image.BICUBIC))
    yield "size_5000x3.png", saved(Image.fromarray(smooth // 8 * 8), "PNG", optimize=True)
    yield "size_3x2000.png", saved(Image.fromarray(np.ascontiguousarray(smooth[:, :2000].transpose(1, 0, 2)) // 8 * 8), "PNG")
    for width, height in ((1, 1), (1, 70), (90, 1), (224, 224), (223, 225)):
        image = Image.fromarray(picture(width, height) // 16 * 16)
        yield f"size_{width}x{height}.png", saved(image, "PNG", optimize=True)
    yield "exif_5.png", saved(Image.fromarray(picture(19, 31)), "PNG", exif=orientation(5))
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", "<tiff:Orientation>8</tiff:Orientation>")
    yield "exif_in_xmp.png", saved(Image.fromarray(picture(19, 31)), "PNG", pnginfo=text)


def webp_files():
    rgb, rgba = Image.fromarray(picture(59, 43)), Image.fromarray(picture(59, 43, 4))
    yield "lossy.webp", saved(rgb, "WEBP", quality=75)
    yield "lossy_alpha.webp", saved(rgba, "WEBP", quality=75)
    yield "lossless.webp", saved(rgb, "WEBP", lossless=True)
    yield "lossless_alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True)
    yield "animated.webp", saved(rgba, "WEBP", save_all=True, append_images=[rgba.rotate(180)], duration=40, quality=60)
    yield "exif_6.webp", saved(rgb, "WEBP", quality=60, exif=orientation(6))
    yield "size_1x1.webp", saved(Image.fromarray(picture(1, 1)), "WEBP", lossless=True)


def bmp_files():
    def palette(colors):
        return rng.integers(0, 256, 4 * colors, dtype=np.uint8).tobytes()

    w, h = 33, 17
    for bits in (1, 4, 8):
        yield f"palette{bits}.bmp", bmp(w, h, bits, bmp_rows(w, h, bits), palette=palette(1 << bits))
    yield "palette8_short.bmp", bmp(w, h, 8, bmp_rows(w, h, 8), palette=palette(40))
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 4).tobytes()
    yield "grey8.bmp", bmp(w, h, 8, bmp_rows(w, h, 8), palette=ramp)
    yield "black_white.bmp", bmp(w, h, 1, bmp_rows(w, h, 1), palette=b"\0\0\0\0\xff\xff\xff\0")
    yield "rle8.bmp", bmp(w, h, 8, bmp_runs(w, h, False), 1, palette(256))
    yield "rle4.bmp", bmp(w, h, 4, bmp_runs(w, h, True), 2, palette(16))
    yield "rgb555.bmp", bmp(w, h, 16, bmp_rows(w, h, 16))
    yield "rgb565.bmp", bmp(w, h, 16, bmp_rows(w, h, 16), 3, masks=(0xF800, 0x7E0, 0x1F))
    yield "rgb24.bmp", bmp(w, h, 24, bmp_rows(w, h, 24))
    yield "rgb24_top_down.bmp", bmp(w, h, 24, bmp_rows(w, h, 24), top_down=True)
    yield "rgb24_os2.bmp", bmp(w, h, 24, bmp_rows(w, h, 24), header=12)
    yield "rgb32.bmp", bmp(w, h, 32, bmp_rows(w, h, 32))
    yield "rgb32_fields.bmp", bmp(w, h, 32, bmp_rows(w, h, 32), 3, masks=(0xFF, 0xFF00, 0xFF0000, 0xFF000000), header=108)
    yield "rgb32_fields_high.bmp", bmp(w, h, 32, bmp_rows(w, h, 32), 3, masks=(0xFF000000, 0xFF0000, 0xFF00, 0), header=124)


def gif_files():
    def colors():
        return rng.integers(0, 256, 48, dtype=np.uint8).tobytes()

    ramp = np.repeat(np.arange(16, dtype=np.uint8), 3).tobytes()
    yield "plain.gif", gif(31, 22, (0, 0, 31, 22), colors())
    yield "interlaced.gif", gif(31, 22, (0, 0, 31, 22), colors(), interlaced=True)
    yield "local.gif", gif(31, 22, (0, 0, 31, 22), colors(), colors())
    yield "local_ramp.gif", gif(31, 22, (0, 0, 31, 22), colors(), ramp)
    yield "offset.gif", gif(31, 22, (5, 3, 20, 19), colors())
    yield "offset_transparent.gif", gif(31, 22, (5, 3, 20, 19), colors(), transparent=7)
    yield "larger_than_canvas.gif", gif(31, 22, (10, 4, 41, 30), colors())
    yield "no_table.gif", gif(31, 22, (0, 0, 31, 22))
    animation = [Image.fromarray(picture(40, 30)).quantize(32) for _ in range(3)]
    yield "animated.gif", saved(animation[0], "GIF", save_all=True, append_images=animation[1:])


# ---- the references -------------------------------------------------------------------------------------------------


def fitted(image, reference, resample, side, resize):
    """resize: one number (shorter side), two (height, width), or None."""
    if reference == "openai":
        mode = TF.InterpolationMode.BICUBIC if resample == "bicubic" else TF.InterpolationMode.BILINEAR
        if resize is not None:
            image = TF.resize(image, resize if len(resize) == 2 else resize[0], mode)
        return np.asarray(TF.center_crop(image, [side, side]) if side else image)
    kind = CLIPImageProcessorPil if reference == "hf" else CLIPImageProcessor
    size = {"shortest_edge": 224}
    if resize is not None:
        size = {"height": resize[0], "width": resize[1]} if len(resize) == 2 else {"shortest_edge": resize[0]}
    processor = kind(size=size, crop_size={"height": side, "width": side}, do_resize=resize is not None,
                     do_center_crop=bool(side), do_rescale=False, do_normalize=False,
                     resample=3 if resample == "bicubic" else 2)
    pixels = np.asarray(processor(images=[image], return_tensors="pt")["pixel_values"][0])
    return pixels.transpose(1, 2, 0).astype(np.uint8)


def fits_of(image, cases):
    out = []
    for resample, side, resize in cases:
        for reference in ("hf", "openai", "hf-fast"):
            pixels = fitted(image, reference, resample, side, resize)
            out.append([reference, resample, side, resize, [pixels.shape[1], pixels.shape[0]], checksum(pixels)])
    return out


def grid(width, height):
    """Rough pixels that the test computes by itself: arithmetic modulo 2**32."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    mixed = (x.astype(np.uint64) * 2654435761 + y.astype(np.uint64) * 40503 * 65537 + c.astype(np.uint64) * 97 * 16777619)
    mixed = (mixed ^ (mixed >> 15)) & 0xFFFFFFFF
    mixed = (mixed * 2246822519) & 0xFFFFFFFF
    return ((mixed >> 24) & 255).astype(np.uint8)


GRIDS = [(640, 480), (480, 640), (225, 224), (224, 224), (223, 447), (100, 401), (101, 203), (50, 49), (7, 5), (1, 1),
         (1, 9), (300, 2), (1000, 751), (337, 336), (448, 448), (31, 1500)]


def main():
    OUT.mkdir(exist_ok=True)
    for old in OUT.iterdir():
        old.unlink()
    files = []
    for generate in (jpeg_files, png_files, webp_files, bmp_files, gif_files):
        for name, data in generate():
            (OUT / name).write_bytes(data)
            opened = Image.open(io.BytesIO(data))
            mode = opened.mode
            # Pixels only: transformers 5.23 puts what the picture's `info` still calls transparent on white.
            image = Image.fromarray(np.asarray(opened.convert("RGB")))
            upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
            cases = [("bicubic", 56, [56]), ("bicubic", 224, [224]), ("bilinear", 33, [40])]
            files.append({"file": name, "mode": mode, "size": list(image.size), "checksum": checksum(np.asarray(image)),
                          "upright_size": list(upright.size), "upright_checksum": checksum(np.asarray(upright)),
                          "fits": fits_of(image, cases)})
    grids = []
    for width, height in GRIDS:
        image = Image.fromarray(grid(width, height))
        cases = [("bicubic", 224, [224]), ("bilinear", 224, [224]), ("bicubic", 336, [336]), ("bicubic", 55, [64]),
                 ("bicubic", 56, None), ("bicubic", 0, [91, 120]), ("bilinear", 40, [30, 77]), ("bicubic", 45, [38])]
        grids.append({"size": [width, height], "checksum": checksum(np.asarray(image)), "fits": fits_of(image, cases)})
    # One picture whole, so that a reader can look at what differs.
    sample = Image.open(OUT / "rgb_420.jpg").convert("RGB")
    (OUT / "rgb_420.hf.56.rgb").write_bytes(fitted(sample, "hf", "bicubic", 56, [56]).tobytes())
    manifest = {"made_by": "tests/golden/make_images.py",
                "versions": {"pillow": PIL.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__,
                             "transformers": transformers.__version__, "numpy": np.__version__,
                             "torch_cpu_capability": torch.backends.cpu.get_cpu_capability()},
                "files": files, "grids": grids}
    parts = [f' "{key}": ' + ("[\n" + ",\n".join("  " + json.dumps(v) for v in value) + "\n ]" if isinstance(value, list)
                             else json.dumps(value)) for key, value in manifest.items()]
    (OUT / "manifest.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")  # one line per picture
    print(len(files), "files,", sum(f.stat().st_size for f in OUT.iterdir()), "bytes")


if __name__ == "__main__":
    main()
