#!/usr/bin/env bash
# Tries a running server's /openapi.json with schemathesis (pip install schemathesis), every check of it switched on.
#
#   tools/openapi_check.sh URL [EXAMPLES] [SEED]      URL: http://127.0.0.1:7860
set -euo pipefail
url=${1:?the address of a running server}
cd "$(dirname "$0")"
SCHEMATHESIS_HOOKS=openapi_hooks PYTHONPATH=. PYTHONDONTWRITEBYTECODE=1 "${SCHEMATHESIS:-schemathesis}" run \
  "$url/openapi.json" --checks all --phases examples,coverage,fuzzing --continue-on-failure \
  --max-examples "${2:-25}" --seed "${3:-1}"
