#!/usr/bin/env bash
# Installs what a bare Debian machine lacks: the packages of scripts/packages.txt, Bun (from npm, into
# build/tools) and the npm dependencies. Idempotent: with everything there it ends in well under a second.
# Prints one line for each step it really does; on failure one sentence says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

BUN_VERSION=1.4.5

step() { printf '==> %s\n' "$*"; }
fail() {
  printf 'Cannot set up: %s\n' "$*" >&2
  exit 1
}

command -v apt-get >/dev/null || fail "this needs Debian (or a derivative): there is no apt-get."
command -v npm >/dev/null || fail "npm is not installed; install nodejs and npm first."

if [ "$(id -u)" = 0 ]; then
  as_root=()
elif command -v sudo >/dev/null; then
  as_root=(sudo)
else
  fail "root is needed (microVM networking, cgroups), and there is no sudo."
fi

missing=()
while read -r package _; do
  case "$package" in '' | '#'*) continue ;; esac
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done <scripts/packages.txt

if [ "${#missing[@]}" -gt 0 ]; then
  step "installing Debian packages: ${missing[*]}"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  export DEBIAN_FRONTEND=noninteractive
  if ! { "${as_root[@]}" apt-get update -q &&
    "${as_root[@]}" apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    fail "apt-get could not install ${missing[*]}; is the network there?"
  fi
fi

tools=build/tools
if [ "$("$tools/node_modules/.bin/bun" --version 2>/dev/null)" != "$BUN_VERSION" ]; then
  step "installing Bun $BUN_VERSION"
  mkdir -p "$tools"
  npm install --silent --no-fund --no-audit --no-save --prefix "$tools" "bun@$BUN_VERSION" >&2 ||
    fail "npm could not install bun@$BUN_VERSION; is the network there?"
  # npm may be set up to skip install scripts, which leaves a placeholder in the place of the binary.
  "$tools/node_modules/.bin/bun" --version >/dev/null 2>&1 || node "$tools/node_modules/bun/install.js"
fi

if [ ! -e node_modules/.installed ] || [ bun.lock -nt node_modules/.installed ]; then
  step "installing npm dependencies"
  "$tools/node_modules/.bin/bun" install --frozen-lockfile --silent ||
    fail "bun could not install the npm dependencies; is the network there?"
  touch node_modules/.installed
fi
