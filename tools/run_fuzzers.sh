#!/usr/bin/env bash
# Runs every fuzzer of a folder for some seconds each, from its seeds, and fails if one finds something. What a fuzzer
# learns stays in FOLDER/corpus/NAME for the next time; a finding's input is kept in FOLDER/findings and named.
#
#   tools/run_fuzzers.sh FOLDER SECONDS
set -uo pipefail
folder=${1:?folder with the fuzzers} seconds=${2:?seconds each}
seeds=$(cd "$(dirname "$0")/.." && pwd)/tests/fuzz/seeds
mkdir -p "$folder/findings"

found=0 ran=0
for fuzzer in "$folder"/*; do
  [ -f "$fuzzer" ] && [ -x "$fuzzer" ] || continue
  name=$(basename "$fuzzer")
  from=$seeds/$name
  [ -d "$from" ] || from=$seeds/${name%_fuzz}
  if [ -z "$(ls -A "$from" 2>/dev/null)" ]; then
    echo "fuzz: $name has no seeds in tests/fuzz/seeds/$name" >&2
    found=$((found + 1))
    continue
  fi
  mkdir -p "$folder/corpus/$name"
  log=$folder/$name.log
  echo "fuzz: $name for $seconds s, log in $log"
  "$fuzzer" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3000 -print_final_stats=1 \
    -artifact_prefix="$folder/findings/$name-" "$folder/corpus/$name" "$from" >"$log" 2>&1
  status=$?
  ran=$((ran + 1))
  grep -E '^stat::number_of_executed_units|^Done ' "$log" | sed 's/^/  /'
  if [ $status -ne 0 ]; then
    found=$((found + 1))
    echo "fuzz: $name FOUND something (exit $status):" >&2
    grep -E -m 5 'ERROR|SUMMARY|runtime error|Test unit written' "$log" | sed 's/^/  /' >&2
  fi
done
echo "fuzz: $ran fuzzers ran, $found with findings or without seeds"
[ "$found" = 0 ] && [ "$ran" -gt 0 ]
