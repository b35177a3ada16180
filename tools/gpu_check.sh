#!/usr/bin/env bash
# On a machine with a GPU, from the root of the checkout: is everything there, do the GPU tests pass, does the memory
# checker find nothing, how fast is it. Needs only build-gpu-bundle/ (make gpu-bundle) and the checkout.
#
#   tools/gpu_check.sh [STEP…]      steps: machine libraries tests sanitizer operations bench; default: all of them
#
# Writes tests.log, sanitizer.log, operations.jsonl, bench.jsonl and summary.txt to $OUT (default: build-gpu-check) and
# prints the summary last. Fails if a test failed or was skipped, or if a step could not run.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${OUT:-build-gpu-check}; mkdir -p "$out"
bundle=${BUNDLE:-build-gpu-bundle}
steps=${*:-machine libraries tests sanitizer operations bench}
seconds=${SECONDS_EACH:-1}
: >"$out/summary.txt"
status=0
say() { printf '%s\n' "$*" | tee -a "$out/summary.txt"; }
fail() { say "FAILED: $*"; status=1; }
wanted() { case " $steps " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
export PATH=$PATH:/usr/local/cuda/bin:/usr/local/cuda/compute-sanitizer
export TANDEM_SOURCE_DIR=$PWD TANDEM_MODELS=$PWD/models
export LD_LIBRARY_PATH=$PWD/$bundle/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

# cuBLASLt comes with the toolkit, or with Python packages.
find_cublas() {
  ldconfig -p | grep -q 'libcublasLt\.so\.13' && return 0
  local found
  found=$(find -L /usr/local/cuda*/ /opt /usr/lib /usr/local/lib /root/.local -name 'libcublasLt.so.13' 2>/dev/null | head -1)
  [ -n "$found" ] || return 1
  LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$(dirname "$found")
  say "cuBLASLt from $(dirname "$found")"
}
find_cublas || fail "libcublasLt.so.13 was not found"

if wanted machine; then
  say "$(nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv,noheader)"
  say "$("$bundle/tandem" --version | tr '\n' ' ')"
fi

if wanted libraries; then
  for file in "$bundle/tandem" "$bundle/lib/libtandem_cuda.so" "$bundle/cuda_engine_test"; do
    missing=$(ldd "$file" | grep 'not found') && fail "$file: $missing"
  done
  say "$("$bundle/tandem" info --json | python3 -c 'import json,sys; print("devices:", json.load(sys.stdin)["devices"])')"
fi

if wanted tests; then
  : >"$out/tests.log"
  for test in cuda_loader_test cuda_backend_test cuda_towers_test cuda_engine_test; do
    timeout 240 "$bundle/$test" --gtest_brief=1 >"$out/one.log" 2>&1
    code=$?
    cat "$out/one.log" >>"$out/tests.log"
    say "$test: $(grep -cE '^\[  FAILED  \].*\(' "$out/one.log") failed, $(grep -E '^\[==========\].*ran' "$out/one.log")"
    grep -E '^\[  FAILED  \]' "$out/one.log" | sort -u | head -40
    [ $code -eq 0 ] || fail "$test ended with $code: $(grep -m3 -E 'Failure|error|Error|got ' -A3 "$out/one.log" | tr '\n' '|')"
    # Here is a device: nothing has a reason to be skipped.
    grep -q 'Skipped' "$out/one.log" && fail "$test skipped something: $(grep -m1 -A1 Skipped "$out/one.log" | tr '\n' ' ')"
  done
  rm -f "$out/one.log"
fi

if wanted sanitizer; then
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
      filter='*SharedPrefix/fp16:*SharedPrefix/fp32:*RowsWithGaps/bf16:*RaggedCausalTexts/fp16:*CudaRows.*/fp16:-*TooMuchMemory*:*SeveralThreads*:*CopiesOfAnySize*'
      timeout 150 compute-sanitizer --tool $tool --error-exitcode 9 "$bundle/cuda_backend_test" --gtest_brief=1 \
        --gtest_filter="$filter" >"$out/sanitizer-$tool.log" 2>&1
      code=$?
      say "compute-sanitizer $tool: $(tail -1 "$out/sanitizer-$tool.log")"
      [ $code -eq 0 ] || fail "compute-sanitizer $tool ended with $code"
    done
    cat "$out"/sanitizer-*.log >"$out/sanitizer.log"; rm -f "$out"/sanitizer-*.log
  else
    fail "compute-sanitizer is not here"
  fi
fi

if wanted operations; then
  timeout 300 "$bundle/tandem_cuda_operations" "${PRECISION:-fp16}" "${SECONDS_OPERATION:-0.2}" >"$out/operations.jsonl" \
    || fail "tandem_cuda_operations"
  python3 - "$out/operations.jsonl" <<'PYTHON' | tee -a "$out/summary.txt"
import json, sys
rows = {}
for line in open(sys.argv[1]):
    r = json.loads(line)
    rows.setdefault((r["tower"], r["batch"]), {})[r["op"]] = r
ops = ["patch_embed", "layer_norm", "qkv", "attention", "out", "fc1", "fc1 without activation", "fc2", "attention, one query"]
print("us (TFLOP/s or GB/s)  " + "  ".join(f"{o[:18]:>18}" for o in ops))
for (tower, batch), r in rows.items():
    cells = []
    for o in ops:
        if o not in r:
            cells.append(f"{'':>18}")
            continue
        rate = f"{r[o]['gbps']:.0f} GB/s" if o in ("layer_norm", "attention, one query") else f"{r[o]['tflops']:.0f}"
        cells.append(f"{r[o]['us']:>9.1f} ({rate})".rjust(18))
    print(f"{tower + ' b' + str(batch):<20}  " + "  ".join(cells))
PYTHON
fi

if wanted bench; then
  : >"$out/bench.jsonl"
  for model in ViT-B-32 ViT-L-14-336 ViT-H-14; do
    for batch in 1 256; do
      timeout 120 "$bundle/tandem" bench --model "random:$model" --device cuda:0 --precision "${PRECISION:-fp16}" \
        --what image --batch $batch --min-seconds "$seconds" --json >>"$out/bench.jsonl" 2>>"$out/bench.err" \
        || fail "bench of $model, batch $batch: $(tail -1 "$out/bench.jsonl") $(tail -1 "$out/bench.err")"
    done
  done
  timeout 120 "$bundle/tandem" bench --model random:ViT-L-14 --device cuda:0 --precision "${PRECISION:-fp16}" --what text \
    --batch 256 --text-length 16 --min-seconds "$seconds" --json >>"$out/bench.jsonl" 2>>"$out/bench.err" \
    || fail "bench of texts: $(tail -1 "$out/bench.err")"
  python3 - "$out/bench.jsonl" <<'PYTHON' | tee -a "$out/summary.txt"
import json, sys
print(f"{'model':<22}{'what':>6}{'batch':>6}{'median ms':>11}{'min ms':>9}{'per s':>9}{'load s':>8}")
for line in open(sys.argv[1]):
    r = json.loads(line)
    if "model" not in r:
        continue
    rate = r["images_per_second"] or r["texts_per_second"]
    print(f"{r['model'][7:]:<22}{r['what']:>6}{r['batch']:>6}{r['median_ms']:>11.3f}{r['min_ms']:>9.3f}{rate:>9.0f}{r['load_seconds']:>8.2f}")
PYTHON
  rm -f "$out/bench.err"
fi

echo "== summary"
cat "$out/summary.txt"
exit $status
