#!/usr/bin/env bash
# Runs every fuzzer of a folder for some seconds each, from its seeds, and fails if one finds something. What a fuzzer
# learns stays in FOLDER/corpus/NAME for the next time; a finding's input is kept in FOLDER/findings and named.
#
#   tools/run_fuzzers.sh FOLDER SECONDS [HOW_MANY_AT_ONCE]
set -uo pipefail
folder=${1:?folder with the fuzzers} seconds=${2:?seconds each} at_once=${3:-1}
seeds=$(cd "$(dirname "$0")/.." && pwd)/tests/fuzz/seeds
mkdir -p "$folder/findings"

# Runs one fuzzer and says how it went; its exit status, or 1 without seeds.
run_fuzzer() {
  local name from log status
  name=$(basename "$1")
  from=$seeds/$name
  [ -d "$from" ] || from=$seeds/${name%_fuzz}
  if [ -z "$(ls -A "$from" 2>/dev/null)" ]; then
    echo "fuzz: $name has no seeds in tests/fuzz/seeds/$name" >&2
    return 1
  fi
  mkdir -p "$folder/corpus/$name"
  log=$folder/$name.log
  "$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3000 -print_final_stats=1 \
    -artifact_prefix="$folder/findings/$name-" "$folder/corpus/$name" "$from" >"$log" 2>&1
  status=$?
  if [ $status -eq 0 ]; then
    echo "fuzz: $name: $(grep -m 1 '^Done ' "$log")"
  else
    echo "fuzz: $name FOUND something (exit $status), log in $log:" >&2
    grep -E -m 5 'ERROR|SUMMARY|runtime error|Test unit written' "$log" | sed 's/^/  /' >&2
  fi
  return $status
}

pids=()
for fuzzer in "$folder"/*; do
  [ -f "$fuzzer" ] && [ -x "$fuzzer" ] || continue
  while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do wait -n; done
  echo "fuzz: $(basename "$fuzzer") for $seconds s"
  run_fuzzer "$fuzzer" &
  pids+=($!)
done
found=0
for pid in "${pids[@]}"; do wait "$pid" || found=$((found + 1)); done
echo "fuzz: ${#pids[@]} fuzzers ran, $found with findings or without seeds"
[ "$found" = 0 ] && [ "${#pids[@]}" -gt 0 ]
