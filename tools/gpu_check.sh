#!/usr/bin/env bash
# On a machine with a GPU, from the root of the checkout: is everything there, do the GPU tests pass, does the memory
# checker find nothing, how fast is it. Needs only build-gpu-bundle/ (make gpu-bundle) and the checkout.
#
#   tools/gpu_check.sh [STEP…]
#
# Steps without peers, the default: machine libraries tests sanitizer operations bench
# Steps that need torch and transformers (verify: Pillow and numpy alone) (bench/README.md says what they measure):
#   accuracy               full-depth models with outlier channels in every precision; labels of the emoji test set
#   verify                 docs/accuracy.md: every precision against fp32, emoji (with the 20,570 pictures) and random shapes
#   start                  process start to first vector
#   embed                  tandem embed over 50,000 JPEGs
#   compare MODEL…         one or more of B-32 H-14 L-14 L-14-336; CASES="image 1,both 16" chooses among their cases
#
# Writes tests.log, sanitizer.log, operations.jsonl, bench.jsonl, measure.log, gpu-*.json and summary.txt to $OUT
# (default: build-gpu-check) and prints the summary last. Fails if a test failed or was skipped, if a vector is too far
# from the reference, or if a step could not run. A bar of speed that is missed is said in the table, and is no failure.
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

# One tool on one test program: NAME TOOL PROGRAM SECONDS FILTER. All of them together get $SANITIZER_SECONDS.
sanitize() {
  local left=$((sanitizer_end - SECONDS)) limit=$4 begin=$SECONDS log="$out/one.log" code
  [ "$left" -lt "$limit" ] && limit=$left
  if [ "$limit" -lt 10 ]; then say "compute-sanitizer $2, $1: NOT RUN, no time is left (SANITIZER_SECONDS)"; return; fi
  timeout -k 5 "$limit" compute-sanitizer --tool "$2" --error-exitcode 9 "$bundle/$3" --gtest_brief=1 --gtest_filter="$5" \
    >"$log" 2>&1
  code=$?
  { echo "== $2 $1: $5"; cat "$log"; } >>"$out/sanitizer.log"
  say "compute-sanitizer $2, $1: $(grep -E '^\[==========\].*ran' "$log" | tail -1), $(grep -E 'SUMMARY' "$log" | tail -1) ($((SECONDS - begin)) s)"
  case $code in
    0) ;;
    124 | 137) fail "compute-sanitizer $2, $1: not done after $limit s: $(tail -1 "$log")" ;;
    *) fail "compute-sanitizer $2, $1 ended with $code: $(grep -m6 -E '^========= |Failure' "$log" | tr '\n' '|')" ;;
  esac
  rm -f "$log"
}
if wanted sanitizer; then
  if command -v compute-sanitizer >/dev/null; then
    : >"$out/sanitizer.log"
    sanitizer_end=$((SECONDS + ${SANITIZER_SECONDS:-420}))
    towers='*Every/Towers.*hf_quickgelu_cuda_fp16:*Every/Towers.*hf_gelu_head80_cuda_fp16:*Every/Towers.*hf_gelu_head80_cuda_fp32'
    operations='*SharedPrefix/fp16:*SharedPrefix/fp32:*RowsWithGaps/bf16:*RaggedCausalTexts/fp16:*CudaRows.*/fp16:-*TooMuchMemory*:*SeveralThreads*:*CopiesOfAnySize*'
    norms='*CudaNorm.NotANumber*/fp16:*CudaNorm.OutliersAndRows*/fp16:*EveryLengthOfTheImageTowers/fp16'
    products='*OddShapesAndStrides/fp16:*OddShapesAndStrides/tf32:*RowsOfAStackedWeight/*:*PatchEmbedding/fp16:*Projection/fp16'
    eight='*CudaEight.EveryActivation*:*CudaEight.AttentionForItsReader*:*CudaEight.LayersKeptBack*'
    engine='*RecordedPassesGiveTheSameBits/random_ViT_B_32:*InputsAndVectorsStayOnTheDevice/random_ViT_B_32'
    sanitize towers memcheck cuda_towers_test 60 "$towers"
    sanitize towers racecheck cuda_towers_test 100 "$towers"
    sanitize operations memcheck cuda_backend_test 60 "$operations"
    sanitize operations racecheck cuda_backend_test 100 "$operations"
    sanitize norms memcheck cuda_backend_test 60 "$norms"
    sanitize norms racecheck cuda_backend_test 100 "$norms"
    sanitize products memcheck cuda_backend_test 60 "$products"
    sanitize products racecheck cuda_backend_test 100 "$products"
    sanitize eight memcheck cuda_backend_test 60 "$eight"
    sanitize eight racecheck cuda_backend_test 100 "$eight"
    sanitize engine memcheck cuda_engine_test 90 "$engine"
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
ops = ["patch_embed", "layer_norm", "layer_norm and qkv", "attention", "out", "layer_norm and fc1", "fc2",
       "attention, one query", "layer_norm and projection"]
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

# A measuring script: its lines go to measure.log, its result to $out.
measure() {
  local begin=$SECONDS code
  python3 "$@" 2>&1 | tee -a "$out/measure.log"
  code=${PIPESTATUS[0]}
  [ "$code" -eq 0 ] || fail "$(basename "$1") ended with $code: $(grep -E 'FAILED|TOO FAR|Error' "$out/measure.log" | tail -3 | cut -c1-600)"
  say "$(basename "$1"): $((SECONDS - begin)) s"
}
device=${DEVICE:-cuda:0}
export PYTHONUNBUFFERED=1

if wanted accuracy; then
  outliers=$(mktemp -d)
  measure tests/golden/make_outlier_models.py "$outliers" --torch-device "${device%%:*}" --pictures 16 --ends-only --check \
    "$bundle/tandem" --device "$device" --precisions ${PRECISIONS:-fp32 tf32 fp16 bf16} --json "$out/gpu-accuracy.json"
  rm -rf "$outliers"
  measure bench/emoji_labels.py "$bundle/tandem" --device "$device" --out "$out"
fi

wanted verify && measure bench/accuracy.py "$bundle/tandem" --device "$device" --testset ${PRECISIONS:+--precisions $PRECISIONS} \
  ${KEEP:+--keep $KEEP} --out "$out/accuracy-gpu.json"

wanted start && measure bench/startup_gpu.py "$bundle/tandem" --device "$device" --out "$out"
wanted embed && measure bench/embed_files.py "$bundle/tandem" --device "$device" --out "$out"

if wanted compare; then
  compared=0
  for model in B-32 H-14 L-14 L-14-336 tiny; do
    wanted "$model" || continue
    compared=1
    measure bench/compare_gpu.py "$bundle/tandem" "$model" --device "$device" --out "$out" ${CASES:+--cases "$CASES"}
  done
  [ $compared -eq 1 ] || fail "compare needs a model: B-32, H-14, L-14, L-14-336"
fi

results=("$out"/gpu-*.json)
[ -e "${results[0]}" ] && python3 bench/gpu_table.py "${results[@]}" >>"$out/summary.txt"
rm -f "$out"/gpu-*.md

echo "== summary"
cat "$out/summary.txt"
exit $status
