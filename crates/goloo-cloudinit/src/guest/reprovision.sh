# Prepares the machine for being provisioned again at its next boot, with the user-data on standard input, which has
# $size bytes. put_hook writes /opt/goloo/use-user-data. Prints a mark if this operation has prepared it already and it has booted since.
fail() {
    echo "$*" >&2
    exit 1
}

if [ "$(cat /opt/goloo/reprovision 2>/dev/null)" = "$operation" ]; then
    [ -e /run/goloo-reprovision ] || echo "$booted"
    exit 0
fi
[ -f /etc/ssh/goloo_host_ed25519_key ] || fail "goloo didn't provision this machine when it was created"
command -v cloud-init >/dev/null || fail "the image has no cloud-init"
has_systemd || fail "provisioning again takes systemd, which this machine doesn't have"
[ -e /var/lib/cloud/instance/obj.pkl ] || fail "cloud-init has never found its data in this machine"

# What the connection broke off isn't used.
mkdir -p /opt/goloo
(umask 077 && cat <&3 >/opt/goloo/user-data.sent)
[ "$(wc -c </opt/goloo/user-data.sent)" -eq "$size" ] || fail "the new user-data didn't arrive in full"
# Gone after a boot.
: >/run/goloo-reprovision
mv -f /opt/goloo/user-data.sent /opt/goloo/user-data
put_hook
put 0644 /etc/systemd/system/cloud-init-local.service.d/zz-goloo.conf <<'END'
# Written by goloo; see /opt/goloo/use-user-data.
[Service]
ExecStartPost=-/bin/sh /opt/goloo/use-user-data
END

# The user-data says now what was changed since the machine was created.
units=/etc/systemd/system
rm -rf /opt/goloo/later
rm -f $units/goloo-later.service $units/multi-user.target.wants/goloo-later.service
# configure.sh runs again, if there still is one.
rm -rf /var/lib/goloo/configure
rm -f /opt/goloo/configure.sh /opt/goloo/run-configure
rm -f $units/goloo-configure.service $units/multi-user.target.wants/goloo-configure.service
systemctl daemon-reload

# Of cloud-init's marks of what it has done in this machine all go, except that disks are partitioned and formatted only
# once. The scripts are those of the document that goes.
cd /var/lib/cloud/instance || exit 1
for mark in sem/*; do
    case $mark in
    */config_disk_setup*) ;;
    *) rm -f "$mark" ;;
    esac
done
rm -rf scripts/* boothooks/* handlers/*
# The verdict is read from the log of this provisioning alone.
for log in cloud-init cloud-init-output; do
    [ ! -f /var/log/$log.log ] || mv -f /var/log/$log.log /var/log/$log.log.before
done
sync
echo "$operation" | put 0644 /opt/goloo/reprovision
sync
