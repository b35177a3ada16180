#!/usr/bin/env bash
# Runs every test of one preset: the C++ tests through ctest, then, for the release build, the tests that drive the
# program through pytest. Both run even if the first fails; the last line sums them up.
#
#   tools/run_tests.sh release|asan|tsan
set -uo pipefail
cd "$(dirname "$0")/.."
preset=${1:?release, asan or tsan}
build=build; [ "$preset" = release ] || build=build-$preset
rm -f "$build/ctest.xml" "$build/pytest.xml"

export TSAN_OPTIONS="halt_on_error=1 ${TSAN_OPTIONS:-}"
export ASAN_OPTIONS="detect_stack_use_after_return=1 ${ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="print_stacktrace=1 ${UBSAN_OPTIONS:-}"

tools/fetch_clip_vocab.sh || true  # it says what is skipped without it

status=0
ctest --preset "$preset" -j "$(nproc)" --output-junit "$PWD/$build/ctest.xml" || status=1
if [ "$preset" = release ]; then
  TANDEM_BINARY="$PWD/build/tandem" .venv/bin/python -m pytest -q -p no:cacheprovider --junitxml="$build/pytest.xml" \
    tests/python || status=1
fi
# Fails on its own where a report is missing, holds a failure, or counts no test.
.venv/bin/python tools/sum_tests.py "$build/ctest.xml" $([ "$preset" = release ] && echo build/pytest.xml) || status=1
exit $status
