#!/usr/bin/env bash
# Installs what building and testing Tandem needs, and nothing when everything is there: then it neither asks the
# network nor needs root.
#
#   tools/setup.sh          the Debian packages of packages.txt; .venv with PyPI's oneDNN and the tests' Python side
#   tools/setup.sh dev      the Debian packages of packages-dev.txt (fuzzing, tidy, format) as well
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# The lines of a package list without comments and empty lines.
lines() { sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$1"; }

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

any_installed() {
  local name
  for name in "$@"; do installed "$name" && return 0; done
  return 1
}

# Prints the first of the alternatives that apt knows.
first_known() {
  local name
  for name in "$@"; do
    if apt-cache show --no-all-versions "$name" >/dev/null 2>&1; then echo "$name"; return 0; fi
  done
  return 1
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    env DEBIAN_FRONTEND=noninteractive "$@"
  elif command -v sudo >/dev/null; then
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  else
    die "installing packages needs root: run \`$*\` as root, or install sudo"
  fi
}

install_packages() {
  local line name missing=() wanted=()
  while IFS= read -r line; do
    # shellcheck disable=SC2086  # the alternatives are words
    any_installed ${line//|/ } || missing+=("$line")
  done < <(lines "$1")
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  as_root apt-get update -qq
  for line in "${missing[@]}"; do
    # shellcheck disable=SC2086
    name=$(first_known ${line//|/ }) || die "apt knows none of: $line (Tandem is built on Debian 12)"
    wanted+=("$name")
  done
  as_root apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${wanted[@]}" >/dev/null
}

# Prints a Python that the pinned wheels fit and that can make a virtual environment.
find_python() {
  local python
  for python in python3 /usr/bin/python3 python3.11 python3.12; do
    if "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then
      echo "$python"
      return 0
    fi
  done
  die "no Python 3.11 or 3.12 with venv was found: the wheels of tools/requirements.txt are for these"
}

make_venv() {
  local wanted stamp=.venv/.requirements.sha256
  wanted=$(sha256sum <tools/requirements.txt)
  if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then return 0; fi
  if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    say "making .venv"
    "$(find_python)" -m venv --clear .venv
  fi
  say "installing PyPI packages into .venv"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
    -r tools/requirements.txt
  echo "$wanted" >"$stamp"
}

case "${1:-}" in "" | dev) ;; *) die "unknown argument '$1': give nothing, or dev" ;; esac
if command -v apt-get >/dev/null; then
  install_packages tools/packages.txt
  [ "${1:-}" != dev ] || install_packages tools/packages-dev.txt
else
  say "no apt-get here: the libraries named in tools/packages.txt must be installed already"
fi
make_venv
