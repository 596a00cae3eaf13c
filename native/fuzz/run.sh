#!/usr/bin/env bash
# Runs one target for a time: run.sh <directory of the programs> <name> <seconds>. What it finds stays in
# <directory>/found-<name>-*; what it learns, in <directory>/corpus/<name>, is where the next run starts.
set -euo pipefail
out=$1 name=$2 seconds=$3
TMPDIR=$(mktemp -d /dev/shm/wrenn-fuzz-XXXXXX)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
mkdir -p "$out/corpus/$name" "$out/seeds/$name"
if ! "$out/$name" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
  -artifact_prefix="$out/found-$name-" "$out/corpus/$name" "$out/seeds/$name" >"$out/$name.log" 2>&1; then
  tail -n 60 "$out/$name.log" >&2
  exit 1
fi
runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$name.log")
echo "ok $runs inputs fuzzed find nothing in $name"
