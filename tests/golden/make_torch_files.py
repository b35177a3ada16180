#!/usr/bin/env python3
"""Makes tests/golden/torch/: archives that torch writes, with what they hold in safetensors, and files to be refused.

usage: make_torch_files.py      (needs torch and safetensors)
"""
import argparse
import collections
import io
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent / "torch"


class Runs:
    """What a hostile file does: unpickling it calls os.system."""

    def __reduce__(self):
        import os
        return os.system, ("true",)


def rewrite(source, target, change, method=zipfile.ZIP_STORED):
    """A copy of an archive whose entries went through `change(name, bytes)`; None drops the entry."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", method) as new:
        for item in old.infolist():
            data = change(item.filename, old.read(item))
            if data is not None:
                new.writestr(item.filename, data)


def main():
    ROOT.mkdir(exist_ok=True)
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = collections.OrderedDict(
        plain=base.clone(),
        transposed=base.T,                         # not dense: the whole storage, other strides
        row=base[2],                               # dense, from an offset on
        column=base[:, 3],                         # one column of six
        block=base[1:3, 2:5],
        expanded=torch.tensor([1.5, -2.0]).reshape(2, 1).expand(2, 3),  # stride 0
        flipped_axes=torch.arange(24, dtype=torch.float16).reshape(2, 3, 4).permute(2, 0, 1),
        scalar=torch.tensor(2.75),
        empty=torch.zeros(0, 4),
        half=torch.linspace(-3, 3, 7).half(),
        bfloat=torch.linspace(-3, 3, 7).bfloat16(),
        long=torch.arange(-3, 4),
        parameter=torch.nn.Parameter(torch.ones(2, 2) * 0.5))
    torch.save(state, ROOT / "views.bin")
    save_file({n: t.detach().contiguous().clone() for n, t in state.items()}, ROOT / "views.safetensors")

    small = {"a": torch.arange(6, dtype=torch.float32).reshape(2, 3)}
    torch.save({"epoch": 7, "best": 0.5, "name": "run", "flags": [True, None, (1, 2, 3)], "state_dict": small,
                "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3}]}}, ROOT / "training.bin")
    torch.save(small, ROOT / "protocol4.bin", pickle_protocol=4)
    torch.save({"a": torch.arange(3, dtype=torch.float64), "flag": torch.tensor([True])}, ROOT / "double.bin")
    torch.save(torch.nn.Linear(2, 2).state_dict(), ROOT / "metadata.bin")

    torch.save(small, ROOT / "refused_legacy.bin", _use_new_zipfile_serialization=False)
    torch.save(small | {"x": Runs()}, ROOT / "refused_system.bin")
    torch.save(small | {"args": argparse.Namespace(lr=1)}, ROOT / "refused_namespace.bin")
    torch.save([torch.ones(2)], ROOT / "refused_list.bin")
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), str(ROOT / "refused_script.bin"))
    torch.save(small, ROOT / "plain.bin")
    plain = ROOT / "plain.bin"
    rewrite(plain, ROOT / "refused_deflated.bin", lambda n, d: d, zipfile.ZIP_DEFLATED)
    rewrite(plain, ROOT / "refused_big_endian.bin", lambda n, d: b"big" if n.endswith("byteorder") else d)
    rewrite(plain, ROOT / "broken_no_storage.bin", lambda n, d: None if n.endswith("data/0") else d)
    rewrite(plain, ROOT / "broken_short_storage.bin", lambda n, d: d[:20] if n.endswith("data/0") else d)
    rewrite(plain, ROOT / "broken_no_pickle.bin", lambda n, d: None if n.endswith("data.pkl") else d)
    rewrite(plain, ROOT / "broken_pickle.bin", lambda n, d: d[:40] if n.endswith("data.pkl") else d)
    (ROOT / "broken_truncated.bin").write_bytes(plain.read_bytes()[:-100])
    for file in ROOT.iterdir():
        file.chmod(0o644)
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()
