#!/usr/bin/env bash
# Collects what a machine with a GPU, but without this project's build tools, needs to run and test Tandem: stripped
# binaries, the libraries that they carry, and the check itself. The checkout's models and golden files stay where they
# are; tools/gpu_check.sh is run from it.
#
#   tools/gpu_bundle.sh BUILD_FOLDER BUNDLE_FOLDER
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:?the build folder}; bundle=${2:?the folder to make}
limit_mb=30

rm -rf "$bundle"
mkdir -p "$bundle/lib"
for name in tandem cuda_loader_test cuda_backend_test cuda_towers_test cuda_engine_test tandem_cuda_operations; do
  strip -o "$bundle/$name" "$build/$name"
done
for library in "$build"/lib/*.so*; do
  case $(basename "$library") in libtandem.so*) continue ;; esac
  strip -o "$bundle/lib/$(basename "$library")" "$library"
done
cp -r "$build/lib/tuning" "$bundle/lib/"
cp -r "$build/calibration" "$bundle/"

kilobytes=$(du -sk --apparent-size "$bundle" | cut -f1)
printf '%-28s %8s KiB\n' $(cd "$bundle" && find . -type f -printf '%P %k\n' | sort) "total" "$kilobytes"
if [ "$kilobytes" -gt $((limit_mb * 1024)) ]; then
  {
    echo "gpu-bundle: $bundle has $kilobytes KiB, more than $limit_mb MiB: something large has slipped in"
    echo "the largest files, and the largest sections of the first of them:"
    largest=$(cd "$bundle" && find . -type f -printf '%s %P\n' | sort -rn | head -5)
    printf '%10d  %s\n' $largest
    read -r _ first <<<"$largest"
    size -A "$bundle/$first" | awk '$2 ~ /^[0-9]+$/ && $1 != "Total" {printf "%10d  %s\n", $2, $1}' | sort -rn | head -5
  } >&2
  exit 1
fi
