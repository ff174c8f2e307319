#!/bin/sh
# Removes from a provisioned machine what belongs to it alone, before its disk becomes an image: what others made from
# the image must not share, and what would tell about this machine. Runs as root, again if it was interrupted.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022
failed=0
fail() {
    echo "$1" >&2
    failed=1
}

# erase PATH…: files with secrets are overwritten, since blocks that are merely free stay in the image.
erase() {
    for path; do
        [ -e "$path" ] || [ -L "$path" ] || continue
        find "$path" -type f -exec shred -n 1 -u {} + 2>/dev/null
        rm -rf "$path"
    done
}

# The modules that ran once, except for those that each machine needs for itself: keys, passwords, names, random numbers,
# what reports this machine to others.
again='config_(ssh|set_passwords|set_hostname|update_hostname|update_etc_hosts|seed_random|growpart|resizefs|scripts_per_instance|ssh_authkey_fingerprints|keys_to_console|phone_home|final_message|power_state_change)$'
baked=/opt/goloo/baked
mkdir -p $baked
rm -f $baked/used
if [ -d /var/lib/cloud/instance/sem ]; then
    ls /var/lib/cloud/instance/sem | grep '^config_' >$baked/all
    if grep -Ev "$again" $baked/all >$baked/modules.new; then
        grep -E "$again" $baked/all >$baked/again
        mv $baked/modules.new $baked/modules
    fi
    rm -f $baked/all $baked/modules.new
fi
uname -n >$baked/name
[ -s $baked/modules ] || fail "cloud-init has no record of what it did here"

# Where a copy continues from the memory, cloud-init has ended.
for file in status.json result.json; do
    [ ! -f /var/lib/cloud/data/$file ] || cp /var/lib/cloud/data/$file $baked/
done

# Nothing writes logs from here on.
systemctl stop rsyslog.service syslog.socket 2>/dev/null
journalctl --relinquish-var 2>/dev/null

# cloud-init's state has the user-data, thus the machine's private host key. What runs on each machine stays.
erase /var/lib/cloud/instance /var/lib/cloud/instances /var/lib/cloud/data /var/lib/cloud/seed
erase /run/cloud-init/instance-data-sensitive.json /run/cloud-init/combined-cloud-config.json
find /var/log -type f ! -name '*.journal*' -exec shred -n 1 -z {} + -exec truncate -s 0 {} +
erase /var/log/journal/* /var/log/cloud-init.log /var/log/cloud-init-output.log

# Keys and ids. sshd reads the host key for each login: until the machine is off, goloo's is in its memory alone.
key=/etc/ssh/goloo_host_ed25519_key
if [ -f $key ] && [ ! -L $key ]; then
    mkdir -p /run/goloo && chmod 0700 /run/goloo
    (umask 077 && cat $key >/run/goloo/host_key) && cat $key.pub >/run/goloo/host_key.pub
    erase $key $key.pub
    ln -s /run/goloo/host_key $key
    ln -s /run/goloo/host_key.pub $key.pub
fi
for key in /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub; do erase "$key"; done
erase /var/lib/systemd/random-seed /var/lib/urandom/random-seed /var/lib/systemd/credential.secret
# Empty, not missing: systemd takes a missing one for the first boot, and sets all units back to their defaults.
[ ! -e /etc/machine-id ] || : >/etc/machine-id
[ -L /var/lib/dbus/machine-id ] || rm -f /var/lib/dbus/machine-id

# The address in a private network.
rm -f /opt/goloo/network /etc/udev/rules.d/90-goloo-network.rules /etc/systemd/network/00-goloo-network.network
rm -f /etc/NetworkManager/conf.d/90-goloo-network.conf /etc/systemd/system/goloo-network.service
rm -f /etc/systemd/system/multi-user.target.wants/goloo-network.service

# Traces.
erase /var/lib/goloo/end /var/lib/goloo/sshd.problem
rm -rf /var/lib/dhcp/* /var/lib/dhcpcd/* /var/lib/NetworkManager/*lease* /var/lib/systemd/timesync/clock
rm -rf /var/lib/systemd/coredump/* /var/crash/* /var/spool/mail/* /var/mail/* /tmp/* /var/tmp/*
for home in /root /home/*; do erase "$home/.bash_history" "$home/.python_history" "$home/.lesshst"; done
: >/var/log/wtmp
: >/var/log/btmp

find /etc/ssh/ssh_host_*_key $key /var/lib/cloud/instances /var/lib/cloud/instance ! -type l 2>/dev/null |
    grep -q . && fail "some of the machine's keys or data can't be removed"
sync
# What is free takes no room in the image, and its former content is not in there.
fstrim -a 2>/dev/null || true
exit $failed
