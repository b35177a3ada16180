"""safetensors files as NumPy arrays, read by the format's definition."""
import json

import numpy

TYPES = {"F32": "<f4", "F16": "<f2", "U8": "u1", "I32": "<i4", "I64": "<i8"}


def read(path):
    """(arrays by name, metadata)"""
    data = open(path, "rb").read()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__", {})
    body = data[8 + length:]
    ends = sorted(tuple(t["data_offsets"]) for t in header.values())
    assert [e for _, e in ends] == [b for b, _ in ends[1:]] + [len(body)], "gaps between tensors"
    return {name: numpy.frombuffer(body[slice(*t["data_offsets"])], TYPES[t["dtype"]]).reshape(t["shape"])
            for name, t in header.items()}, metadata


def write(path, arrays):
    names = {array.dtype.newbyteorder("<").str: name for name, array in ((k, numpy.zeros(0, v)) for k, v in TYPES.items())}
    header, body = {}, b""
    for name, array in arrays.items():
        raw = numpy.ascontiguousarray(array).tobytes()
        header[name] = {"dtype": names[array.dtype.newbyteorder("<").str], "shape": list(array.shape),
                        "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    open(path, "wb").write(len(text).to_bytes(8, "little") + text + body)
