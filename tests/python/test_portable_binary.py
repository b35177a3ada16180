"""The program runs on another machine than the one that built it: its libraries are the C and C++ run time or lie beside
it, and it looks for them relative to itself."""
import os
import pathlib
import re
import subprocess

import pytest

BINARY = pathlib.Path(os.environ.get("TANDEM_BINARY", "build/tandem")).resolve()

# What every Linux distribution with this C library has: glibc's parts, libstdc++ and libgcc.
RUN_TIME = re.compile(r"^(linux-vdso|ld-linux-x86-64|libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s)\.so")
# Debian 12's C library; Ubuntu 24.04 has 2.39.
NEWEST_GLIBC = (2, 36)


def elf_files():
    return [BINARY, *sorted(BINARY.parent.glob("lib/*.so*"))]


def test_libraries_are_the_run_time_or_lie_beside_the_program():
    listing = subprocess.run(["ldd", BINARY], capture_output=True, text=True, check=True).stdout
    carried = set()
    for line in listing.splitlines():
        name = pathlib.Path(line.split()[0]).name
        assert "not found" not in line, line
        if not RUN_TIME.match(name):
            where = pathlib.Path(line.split("=>")[1].split()[0]).resolve()
            assert where.parent == BINARY.parent / "lib", f"{name} comes from {where}"
            carried.add(name)
    assert carried, "oneDNN is among the libraries, so something must be carried"


def test_libraries_are_looked_for_relative_to_the_program():
    dynamic = subprocess.run(["readelf", "-d", BINARY], capture_output=True, text=True, check=True).stdout
    paths = re.findall(r"(?:RPATH|RUNPATH)\).*\[(.*)\]", dynamic)
    assert paths, "no run path"
    for path in paths[0].split(":"):
        assert path.startswith("$ORIGIN"), path


@pytest.mark.parametrize("file", elf_files(), ids=lambda f: f.name)
def test_symbols_are_those_of_debian_12(file):
    symbols = subprocess.run(["objdump", "-T", file], capture_output=True, text=True, check=True).stdout
    versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_(\d+(?:\.\d+)+)", symbols)}
    assert versions and max((v[:2] for v in versions)) <= NEWEST_GLIBC


def test_the_program_does_not_name_the_sources_of_its_machine():
    assert str(BINARY.parent.parent / "src").encode() not in BINARY.read_bytes()


def test_runs_when_copied_elsewhere(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "tandem").write_bytes(BINARY.read_bytes())
    (tmp_path / "tandem").chmod(0o755)
    for file in BINARY.parent.glob("lib/*.so*"):
        if not file.is_symlink() and "libtandem" not in file.name:
            (tmp_path / "lib" / file.name).write_bytes(file.read_bytes())
    run = subprocess.run([tmp_path / "tandem", "--version"], capture_output=True, text=True, cwd="/", env={})
    assert run.returncode == 0, run.stderr
    assert re.search(r"\d+\.\d+\.\d+", run.stdout)
