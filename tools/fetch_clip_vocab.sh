#!/usr/bin/env bash
# Puts CLIP's own list of merges where the tokenizer's tests look for it: .venv/share/clip. It is taken out of the
# open-clip-torch package, which nothing else here needs, and is never part of this repository.
#
#   tools/fetch_clip_vocab.sh      does nothing if it is there; says so and exits 1 if it cannot be had
set -uo pipefail
cd "$(dirname "$0")/.."
file=bpe_simple_vocab_16e6.txt.gz
target=.venv/share/clip/$file
sum=924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a
[ -f "$target" ] && exit 0

fail() { echo "fetch_clip_vocab: $*; tests with CLIP's own vocabulary will be skipped" >&2; exit 1; }
python=.venv/bin/python
[ -x "$python" ] || fail "no .venv (run tools/setup.sh)"
folder=$(mktemp -d) || fail "no temporary folder"
trap 'rm -rf "$folder"' EXIT
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --retries 1 --timeout 10 --dest "$folder" \
  open-clip-torch==3.3.0 >"$folder/log" 2>&1 || fail "open-clip-torch could not be downloaded: $(tail -n 1 "$folder/log")"
"$python" -c 'import sys, zipfile; open(sys.argv[2], "wb").write(zipfile.ZipFile(sys.argv[1]).read("open_clip/" + sys.argv[3]))' \
  "$folder"/*.whl "$folder/$file" "$file" || fail "the package does not hold $file"
echo "$sum  $folder/$file" | sha256sum --check --status || fail "$file is not the expected one"
mkdir -p "$(dirname "$target")" && mv "$folder/$file" "$target" || fail "$target cannot be written"
