#!/usr/bin/env bash
# Installs a build into an empty prefix, builds a stranger's project against it with find_package, and runs that and the
# installed program from elsewhere.
#
#   install_test.sh BUILD_FOLDER CXX
set -euo pipefail
build=$1 cxx=$2 here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/prefix" >"$work/log" || { cat "$work/log"; exit 1; }
# Moved as a whole: nothing in it may remember where it was installed, or find the models of the checkout.
mv "$work/prefix" "$work/moved"
cmake -G Ninja -S "$here" -B "$work/consumer" -DCMAKE_CXX_COMPILER="$cxx" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="$work/moved" >"$work/log" || { cat "$work/log"; exit 1; }
cmake --build "$work/consumer"
cd /
"$work/consumer/consumer"
"$work/moved/bin/tandem" --version
"$work/moved/bin/tandem" embed --texts - --device cpu <<<"a red heart" >"$work/out"
grep -q '"embedding"' "$work/out" || { echo "the installed program embedded nothing:"; cat "$work/out"; exit 1; }

# It was the installed model, and not the checkout's: broken, it stops both.
echo broken >"$work/moved/share/tandem/models/emoji/config.json"
for program in "$work/consumer/consumer" "$work/moved/bin/tandem tokenize x"; do
  if $program >"$work/out" 2>&1; then echo "$program did not use the installed model"; exit 1; fi
done

# The public API, and nothing of the libraries inside, is what libtandem exports.
strangers=$(nm -DC --defined-only "$work/moved/lib/libtandem.so" | cut -d' ' -f3- |
  grep -vE '^(tandem::|(typeinfo( name)?|vtable|guard variable|VTT|non-virtual thunk|virtual thunk)( for| to) tandem::)' || true)
[ -z "$strangers" ] || { echo "libtandem exports more than the API:"; head <<<"$strangers"; exit 1; }
