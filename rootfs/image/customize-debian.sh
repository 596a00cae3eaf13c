#!/bin/sh
# Last step of mmdebstrap: makes a Debian tree a capsule's. Called with the tree as $1, as root.
# Leaves no trace of when or where it was built: no logs, caches, machine-id, host name or lists.
# Writes /.build/packages (name, version, architecture) and /.build/epoch for the builder.
set -eu
root=$1

# The newest index says how old the youngest file of any package can be; nothing in the image is
# dated later. Files that this build makes are dated back to it.
mkdir "$root/.build"
newest=0
for release in "$root"/var/lib/apt/lists/*Release; do
  seconds=$(date -u -d "$(sed -n 's/^Date: //p' "$release" | head -n 1)" +%s)
  [ "$seconds" -le "$newest" ] || newest=$seconds
done
[ "$newest" -gt 0 ] || { echo "no package index with a date in $root" >&2; exit 1; }
echo "$newest" > "$root/.build/epoch"
chroot "$root" dpkg-query -W -f '${Package} ${Version} ${Architecture}\n' > "$root/.build/packages"

chroot "$root" useradd --create-home --shell /bin/bash --uid 1000 --user-group wrenn-user
echo 'wrenn-user ALL=(ALL:ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/wrenn-user"
chmod 0440 "$root/etc/sudoers.d/wrenn-user"

# The day of the last change of a password; empty means no aging.
sed -i 's/^\([^:]*:[^:]*\):[0-9]*:/\1::/' "$root/etc/shadow"

# What mmdebstrap unpacked before there was a dpkg to leave it out.
rm "$root/etc/dpkg/dpkg.cfg.d/wrenn-build"
find "$root/usr/share/doc" ! -type d ! -name copyright -delete
for dir in man info locale lintian; do
  find "$root/usr/share/$dir" -mindepth 1 -delete
done
find "$root/usr/share/doc" -mindepth 1 -type d -empty -delete

printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' > "$root/etc/hosts"

# The guest's clock is the host's, through KVM's PTP device; no time server is asked.
cat > "$root/etc/chrony/chrony.conf" <<'EOF'
refclock PHC /dev/ptp0 poll 2 dpoll -2 offset 0 trust
makestep 0.1 -1
driftfile /var/lib/chrony/chrony.drift
cmdport 0
EOF

rm -rf "$root"/etc/hostname "$root"/etc/resolv.conf "$root"/etc/machine-id \
  "$root"/var/lib/dbus/machine-id "$root"/etc/*- "$root"/var/lib/dpkg/*-old \
  "$root"/var/cache/debconf/*-old "$root"/var/cache/ldconfig/aux-cache \
  "$root"/var/cache/apt/*.bin "$root"/var/cache/apt/archives/*.deb "$root"/root/.cache
find "$root/var/lib/apt/lists" -type f -delete
find "$root/var/log" "$root/tmp" "$root/run" "$root/var/tmp" -mindepth 1 -delete 2>/dev/null || true
: > "$root/etc/machine-id"
