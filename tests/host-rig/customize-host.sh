#!/bin/sh
# Last step of mmdebstrap: makes a Debian tree the rig's host. Called with the tree as $1, as root; the public
# key that may log in is in $WRENN_RIG_KEY.
set -eu
root=$1

echo rig > "$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n127.0.1.1\trig\n::1\tlocalhost\n' > "$root/etc/hosts"
printf 'LABEL=rig / ext4 rw,noatime 0 0\nLABEL=wrenn /wrenn ext4 rw,noatime,nofail,x-systemd.device-timeout=300 0 0\n' \
  > "$root/etc/fstab"
mkdir -p "$root/wrenn" "$root/etc/systemd/network" "$root/etc/systemd/journald.conf.d" "$root/etc/systemd/system.conf.d"
# An emulated host is slow with everything.
printf '[Manager]\nDefaultTimeoutStartSec=600s\n' > "$root/etc/systemd/system.conf.d/rig.conf"
printf '[Journal]\nStorage=volatile\n' > "$root/etc/systemd/journald.conf.d/rig.conf"

# Nothing in the rig's guests wants a guest of its own.
echo 'options kvm_amd nested=0' > "$root/etc/modprobe.d/rig.conf"

# QEMU's user network.
cat > "$root/etc/systemd/network/10-rig.network" <<'EOF'
[Match]
Name=en* eth*
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
EOF

install -d -m 0700 "$root/root/.ssh"
install -m 0600 "$WRENN_RIG_KEY" "$root/root/.ssh/authorized_keys"
# Each answer of a name server that is not there would be waited for.
printf 'UseDNS no\nPermitRootLogin prohibit-password\nMaxSessions 64\n' > "$root/etc/ssh/sshd_config.d/rig.conf"

chroot "$root" systemctl --quiet enable systemd-networkd ssh
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
  fstrim.timer systemd-timesyncd.service postgresql.service redis-server.service; do
  chroot "$root" systemctl --quiet mask "$unit"
done
