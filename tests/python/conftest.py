"""What the tests of the program share: how it is run, and a tiny model to run it on."""
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("TANDEM_BINARY", ROOT / "build/tandem")).resolve()
TINY = ROOT / "tests/golden/tiny"


class Ran:
    """An ended run: exit code, both streams, and standard output as JSON Lines."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def rows(self):
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error_lines(self):
        return self.err.strip().splitlines()


class Program:
    path = BINARY

    def start(self, *args, env=None, **streams):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TANDEM_")}
        return subprocess.Popen([BINARY, *map(str, args)], env={**clean, **(env or {})}, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, **streams)

    def __call__(self, *args, input=None, env=None, cwd=None):
        process = self.start(*args, env=env, stdin=subprocess.PIPE, cwd=cwd)
        data = input.encode() if isinstance(input, str) else input
        out, err = process.communicate(data, timeout=300)
        return Ran(process.returncode, out.decode(), err.decode())


@pytest.fixture(scope="session")
def tandem():
    return Program()


@pytest.fixture(scope="session")
def tiny():
    """A real CLIP of 28 x 28 pixels and 24 dimensions, in Hugging Face layout."""
    return TINY / "hf_quickgelu"
