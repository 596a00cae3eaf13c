#!/usr/bin/env bash
# Installs VMMs that Debian does not have, in the releases of deploy/vmm-releases.txt, and nothing whose SHA-256 is
# not the one written there.
#
#   scripts/fetch-vmm.sh                                  Firecracker and Cloud Hypervisor, into /usr/local/bin
#   scripts/fetch-vmm.sh firecracker                      this one
#   scripts/fetch-vmm.sh --to DIR cloud-hypervisor        elsewhere
#
# A download that was cut off is gone on with by the next run. A program appears whole or not at all, and one that
# runs goes on with the old file.
set -euo pipefail
releases=$(cd "$(dirname "$0")/.." && pwd)/deploy/vmm-releases.txt
to=/usr/local/bin

main() {
  local wanted=() name
  while [ $# -gt 0 ]; do
    case "$1" in
      --to)
        [ -d "${2:-}" ] || fail "--to needs a directory."
        to=$2
        shift
        ;;
      -h | --help) exec sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0" ;;
      -*) fail "there is no option $1; --help lists them." ;;
      *) wanted+=("$1") ;;
    esac
    shift
  done
  command -v curl >/dev/null || fail "curl is not installed."
  [ "${#wanted[@]}" -gt 0 ] || wanted=(firecracker cloud-hypervisor)
  for name in "${wanted[@]}"; do fetch "$name"; done
}

say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'Cannot fetch: %s\n' "$*" >&2
  exit 1
}

hash_of() { sha256sum <"$1" | cut -d ' ' -f 1; }

fetch() { # name
  local line version sha256 program_sha256 url member hash
  line=$(awk -v n="$1" -v a="$(uname -m)" '$1 == n && $3 == a' "$releases" | tail -n 1)
  [ -n "$line" ] || fail "$releases has no release of $1 for $(uname -m)."
  read -r _ version _ sha256 program_sha256 url member <<<"$line"
  for hash in "$sha256" "$program_sha256"; do
    [[ $hash =~ ^[0-9a-f]{64}$ ]] || fail "$releases has no SHA-256 of $1 $version; it says how to find one."
  done
  if [ -e "$to/$1" ] && [ "$(hash_of "$to/$1")" = "$program_sha256" ]; then
    say "$1 $version is in $to"
    return
  fi
  local part=$to/.$1-$version.part
  download "$url" "$part" "$sha256"
  install_program "$1" "$part" "$member" "$program_sha256"
  rm -f "$part"
  say "$1 $version is in $to"
}

download() { # address, file, hash
  local status=0
  if ! { [ -e "$2" ] && [ "$(hash_of "$2")" = "$3" ]; }; then
    say "download $1"
    curl_to "$1" "$2" --continue-at - || status=$?
    # What there is can't be continued: it is whole and wrong (22), or the server knows no ranges (33).
    if [ -s "$2" ] && { [ "$status" = 22 ] || [ "$status" = 33 ]; }; then
      rm -f "$2"
      status=0
      curl_to "$1" "$2" || status=$?
    fi
    [ "$status" = 0 ] || fail "$1: curl ended with $status; the next run goes on where it stopped."
  fi
  local found
  found=$(hash_of "$2")
  if [ "$found" != "$3" ]; then
    rm -f "$2"
    fail "$1 has the SHA-256 $found, not $3: it is not the release, and was thrown away."
  fi
}

curl_to() { # address, file, more options...
  curl --fail --location --silent --show-error --proto '=http,https' --connect-timeout 20 --speed-limit 1000 \
    --speed-time 60 --max-filesize 200M --output "$2" "${@:3}" "$1"
}

install_program() { # name, download, its place in the archive, hash
  local new=$to/.$1.new
  if [ "$3" = - ]; then
    cp "$2" "$new"
  else
    tar -xzOf "$2" "$3" >"$new" || fail "the archive of $1 has no $3."
  fi
  if [ "$(hash_of "$new")" != "$4" ]; then
    rm -f "$new" "$2"
    fail "the program in the archive of $1 is not the one of the release."
  fi
  chmod 0755 "$new"
  sync "$new"
  mv -f "$new" "$to/$1"
}

main "$@"
