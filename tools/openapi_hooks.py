"""What schemathesis needs to know of this API: strings of the format "picture" are pictures, which no schema can say."""
import base64
import struct
import zlib

import schemathesis
from hypothesis import strategies


def png(width, height, colour):
    """A picture of one colour."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = (b"\0" + bytes(colour) * width) * height
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


side = strategies.integers(1, 20)
byte = strategies.integers(0, 255)
codes = strategies.builds(png, side, side, strategies.tuples(byte, byte, byte)).map(lambda one: base64.b64encode(one).decode())
uris = codes.map(lambda one: "data:image/png;base64," + one)
schemathesis.openapi.format("picture", codes | uris)
schemathesis.openapi.format("picture-uri", uris)
