#!/usr/bin/env bash
# Makes this machine a host: the agent with its programs, its unit, directories, kernel settings, modules, rules
# and limits, the guest kernel and the base image. Idempotent; run again with newer programs it upgrades them,
# and capsules go on. Run from a repository in which `make artifacts build` has run, or a copy of its folders
# scripts/, deploy/, builds/, build/kernel/ and build/rootfs/.
#
#   scripts/setup-host.sh              set up, or bring up to date
#   scripts/setup-host.sh --remove     undo what it did; what capsules are made of stays
#   scripts/setup-host.sh --dry-run    say what it would do, with --remove what that would
#   scripts/setup-host.sh --root DIR   the same for a tree that will be a machine's, such as that of an image
#
# What it did is written down in /var/lib/wrenn-setup/done before it does it. Files that somebody changed since
# are neither replaced nor removed.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

LIB=/usr/local/lib/wrenn
DATA=/var/lib/wrenn
STATE=/var/lib/wrenn-setup
UNIT=wrenn-agent.service
PROGRAMS=(wrenn-agent libwrenn.so keeper pager wrenn-preload.so accel-probe.bin)
# The platform's team and its minimal-debian, as proto/ids.ts writes their ids.
TEMPLATE=teams/0000000000000000000000000/0000000000000000000000004

root='' mode=setup dry=''

main() {
  while [ $# -gt 0 ]; do
    case "$1" in
      --root)
        [ -d "${2:-}" ] || fail "--root needs a directory."
        root=$(cd "$2" && pwd)
        [ "$root" != / ] || root=''
        shift
        ;;
      --remove) mode=remove ;;
      --dry-run) dry=1 ;;
      -h | --help) exec sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0" ;;
      *) fail "there is no option $1; --help lists them." ;;
    esac
    shift
  done
  [ "$(id -u)" = 0 ] || fail "run it as root."
  "$mode"
}

say() { printf '==> %s\n' "$*"; }
fail() {
  printf 'Cannot set up: %s\n' "$*" >&2
  exit 1
}

# Says what is done and does it, unless this is a dry run. Arguments: words for people, command...
act() {
  if [ -n "$dry" ]; then
    say "would $1"
  else
    say "$1"
    "${@:2}"
  fi
}

# Whether this is a machine that runs, with its init, and no tree.
is_live() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

# ---- what was done: lines of kind, tab, name, tab, value; the newest last ----

record() {
  local line
  line=$(printf '%s\t%s\t%s' "$1" "$2" "${3:-}")
  grep -qxF -- "$line" "$root$STATE/done" 2>/dev/null && return
  [ -z "$dry" ] || return 0
  mkdir -p "$root$STATE"
  printf '%s\n' "$line" >>"$root$STATE/done"
}

recorded() { # kind, name: the values, newest last
  [ ! -e "$root$STATE/done" ] || awk -F '\t' -v k="$1" -v n="$2" '$1 == k && $2 == n { print $3 }' "$root$STATE/done"
}

hash_of() { sha256sum <"$1" | cut -d ' ' -f 1; }

is_ours() { # path: whether it is as one of our runs left it
  # Not -q: whoever writes into a pipe that is closed early fails.
  recorded file "$1" | grep -xF -- "$(hash_of "$root$1")" >/dev/null
}

# ---- set up ----

setup() {
  check_sources
  install_packages
  make_dir 0755 /etc/wrenn
  make_dir 0750 /var/log/wrenn
  make_dir 0711 "$DATA"
  make_dir 0755 "$DATA/kernels"
  make_dir 0755 "$DATA/images"
  make_dir 0755 "$LIB"
  local name
  for name in "${PROGRAMS[@]}"; do put 0755 "$here/builds/$name" "$LIB/$name"; done
  put_link "$LIB/wrenn-agent" /usr/local/bin/wrenn-agent
  put 0600 "$here/deploy/agent.env" /etc/wrenn/agent.env
  put 0644 "$here/deploy/sysctl.conf" /etc/sysctl.d/60-wrenn.conf
  put 0644 "$here/deploy/modules.conf" /etc/modules-load.d/wrenn.conf
  put 0644 "$here/deploy/udev.rules" /etc/udev/rules.d/11-wrenn.rules
  put 0644 "$here/deploy/logrotate.conf" /etc/logrotate.d/wrenn
  put 0644 "$here/deploy/$UNIT" "/etc/systemd/system/$UNIT"
  put_link "/etc/systemd/system/$UNIT" "/etc/systemd/system/multi-user.target.wants/$UNIT"
  put_guest_files
  if is_live; then apply; else say "the kernel's settings and the unit take effect when it boots"; fi
}

check_sources() {
  local path missing=()
  for path in "${PROGRAMS[@]/#/builds/}" deploy/$UNIT build/rootfs/minimal-debian.{sha256,ext4}; do
    [ -e "$here/$path" ] || missing+=("$path")
  done
  compgen -G "$here/build/kernel/vmlinux*" >/dev/null || missing+=(build/kernel/vmlinux)
  [ "${#missing[@]}" = 0 ] || fail "$here lacks ${missing[*]}; run make artifacts build there."
}

install_packages() {
  local package missing=()
  while read -r package _; do
    case "$package" in '' | '#'*) continue ;; esac
    [ "$(dpkg-query --root="${root:-/}" -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing+=("$package")
  done <"$here/deploy/packages.txt"
  [ "${#missing[@]}" -gt 0 ] || return 0
  if [ -n "$root" ] || ! command -v apt-get >/dev/null; then
    say "install these yourself: ${missing[*]}"
    return
  fi
  for package in "${missing[@]}"; do record package "$package"; done
  act "install ${missing[*]}" apt_install "${missing[@]}"
}

apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null || fail "apt-get update does not work; is the network there?"
  apt-get install -q -y --no-install-recommends "$@" >/dev/null || fail "apt-get could not install $*."
}

# Directories that a dry run has told of.
declare -A told=()

make_dir() { # mode, path
  [ ! -d "$root$2" ] && [ -z "${told[$2]:-}" ] || return 0
  [ -z "$dry" ] || told[$2]=1
  make_parent "$2"
  record dir "$2"
  act "make $2" install -d -m "$1" "$root$2"
}

make_parent() {
  [ "$1" = / ] || make_dir 0755 "$(dirname "$1")"
}

# Puts a file in place, whole or not at all: programs that run keep the old one.
put() { # mode, source, path
  local wanted
  wanted=$(hash_of "$2")
  if [ -e "$root$3" ]; then
    [ "$(hash_of "$root$3")" != "$wanted" ] || return 0
    if ! is_ours "$3"; then
      say "keep $3, which is not as it was put there"
      return
    fi
  fi
  make_parent "$3"
  record file "$3" "$wanted"
  act "put $3" put_now "$1" "$2" "$root$3"
}

put_now() {
  install -m "$1" "$2" "$3.new"
  sync "$3.new" "$root$STATE/done"
  mv -f "$3.new" "$3"
}

put_link() { # target, path
  [ "$(readlink "$root$2")" != "$1" ] || return 0
  [ ! -e "$root$2" ] || fail "$2 is something else; move it away."
  make_parent "$2"
  record link "$2" "$1"
  act "link $2" link_now "$1" "$root$2"
}

link_now() {
  mkdir -p "$(dirname "$2")"
  ln -sfn "$1" "$2"
}

# The kernel and the image are what capsules are made of: they are never removed.
put_guest_files() {
  local file name sha256 home
  for file in "$here"/build/kernel/vmlinux* "$here"/build/kernel/initrd*; do
    [ -e "$file" ] || continue
    name=$(basename "$file")
    sha256=$(hash_of "$file")
    if [ "$(cat "$root$DATA/kernels/$name.sha256" 2>/dev/null)" != "$sha256  $name" ] ||
      [ "$(hash_of "$root$DATA/kernels/$name")" != "$sha256" ]; then
      act "put $DATA/kernels/$name" put_kernel "$file" "$sha256"
    fi
  done
  sha256=$(cut -d ' ' -f 1 "$here/build/rootfs/minimal-debian.sha256")
  home=$root$DATA/images
  [ -e "$home/blobs/$sha256.ext4" ] || act "put the image minimal-debian" put_image "$sha256"
  [ "$(readlink "$home/$TEMPLATE/rootfs.ext4")" = "../../../blobs/$sha256.ext4" ] ||
    act "make it the template's" link_now "../../../blobs/$sha256.ext4" "$home/$TEMPLATE/rootfs.ext4"
}

put_kernel() {
  local name
  name=$(basename "$1")
  put_now 0644 "$1" "$root$DATA/kernels/$name"
  printf '%s  %s\n' "$2" "$name" >"$root$DATA/kernels/$name.sha256"
}

put_image() {
  local blob=$root$DATA/images/blobs/$1.ext4
  mkdir -p "$(dirname "$blob")"
  cp --sparse=always --reflink=auto "$here/build/rootfs/minimal-debian.ext4" "$blob.new"
  [ "$(hash_of "$blob.new")" = "$1" ] || fail "build/rootfs/minimal-debian.ext4 is damaged; make artifacts again."
  chmod 0444 "$blob.new"
  sync "$blob.new"
  mv "$blob.new" "$blob"
}

# ---- of a machine that runs ----

apply() {
  local name key wanted now
  while read -r name; do
    case "$name" in '' | '#'*) continue ;; esac
    [ ! -d "/sys/module/$name" ] || continue
    act "load $name" modprobe -q "$name" || say "this kernel has no module $name"
  done <"$here/deploy/modules.conf"
  while IFS=' =' read -r key wanted; do
    case "$key" in '' | '#'*) continue ;; esac
    now=$(sysctl -n "$key" 2>/dev/null) || continue
    [ "$now" != "$wanted" ] || continue
    record sysctl "$key" "$now"
    act "set $key to $wanted (it is $now)" sysctl -q -w "$key=$wanted"
  done <"$here/deploy/sysctl.conf"
  act "read the rules again" udevadm control --reload
  act "read the units again" systemctl daemon-reload
  if ! grep -q '^WRENN_CP_URL=.' /etc/wrenn/agent.env 2>/dev/null; then
    say "next: fill in /etc/wrenn/agent.env, then systemctl start wrenn-agent"
  elif systemctl -q is-active "$UNIT"; then
    say "next: systemctl restart wrenn-agent, which capsules outlive"
  else
    say "next: systemctl start wrenn-agent"
  fi
}

# ---- remove ----

remove() {
  local kind name value kept=()
  if [ ! -e "$root$STATE/done" ]; then
    say "nothing was set up here"
    return
  fi
  if is_live; then
    ! compgen -G "/sys/fs/cgroup/wrenn-$(cat $DATA/tag 2>/dev/null)/*/cgroup.procs" >/dev/null ||
      fail "capsules run here; destroy them, or pause them, first."
    ! systemctl -q is-active "$UNIT" || act "stop the agent" systemctl stop "$UNIT"
  fi
  while IFS=$'\t' read -r kind name value; do
    case "$kind" in
      file) undo_file "$name" ;;
      link) [ "$(readlink "$root$name")" != "$value" ] || act "remove $name" rm -f "$root$name" ;;
      dir) undo_dir "$name" ;;
      sysctl) ! is_live || undo_sysctl "$name" "$value" ;;
      package) kept+=("$name") ;;
    esac
  done < <(tac "$root$STATE/done")
  [ "${#kept[@]}" = 0 ] || say "packages that were installed stay: ${kept[*]}"
  act "forget what was done" rm -r "$root$STATE"
  if is_live; then
    act "read the units again" systemctl daemon-reload
    act "read the rules again" udevadm control --reload
    say "networks and mounts that the agent made go when the machine starts again; so do modules"
  fi
}

undo_file() {
  [ -e "$root$1" ] || return 0
  if is_ours "$1"; then
    act "remove $1" rm -f "$root$1"
  else
    say "keep $1, which was changed"
  fi
}

undo_dir() {
  [ -d "$root$1" ] || return 0
  if [ -n "$dry" ]; then
    say "would remove $1, if it is empty"
  elif rmdir "$root$1" 2>/dev/null; then
    say "remove $1"
  else
    say "keep $1, which is not empty"
  fi
}

undo_sysctl() { # key, value before
  local ours
  ours=$(awk -F ' = ' -v k="$1" '$1 == k { print $2 }' "$here/deploy/sysctl.conf")
  [ "$(sysctl -n "$1" 2>/dev/null)" = "$ours" ] || return 0
  act "set $1 to $2 again" sysctl -q -w "$1=$2"
}

main "$@"
