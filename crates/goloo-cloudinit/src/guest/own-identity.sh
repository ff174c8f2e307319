# Runs in a machine that continues from the memory of a baked one, and makes it a machine of its own: what a first boot
# would have done for it alone. Can run again if it was interrupted. `now`, `instance`, `name`, `old_instance` and
# `old_name` are set in front; the script with its keys is on standard input. Prints what failed. Starting a program takes
# 40 ms in a machine without hardware acceleration, so the shell does what it can.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022
cloud=/var/lib/cloud
sem=$cloud/instances/$instance/sem
log=/var/log/cloud-init-output.log
mkdir -p /run/goloo && chmod 0700 /run/goloo || exit 1
(umask 077 && cat >/run/goloo/identity) || exit 1
[ -s /run/goloo/identity ] || exit 1

# It has been standing still since the memory was saved.
date -u -s "@$now" >/dev/null

# The name, unless the document chose another one.
read -r current </proc/sys/kernel/hostname
if [ "$current" = "$old_name" ]; then
    echo "$name" >/proc/sys/kernel/hostname
    echo "$name" >/etc/hostname
    sed -i "s/\<$old_name\>/$name/g" /etc/hosts
fi

# The ids. That of the boot can only be covered: the kernel made it once.
if [ ! -s /etc/machine-id ]; then
    systemd-machine-id-setup >/dev/null 2>&1
    [ -s /etc/machine-id ] || tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
fi
if [ ! -e /run/goloo/boot-id ]; then
    read -r id </proc/sys/kernel/random/uuid && echo "$id" >/run/goloo/boot-id
    mount --bind /run/goloo/boot-id /proc/sys/kernel/random/boot_id || rm /run/goloo/boot-id
    mount -o remount,bind,ro /proc/sys/kernel/random/boot_id 2>/dev/null
fi

# cloud-init takes this for an instance that it has set up.
mkdir -p "$sem" $cloud/data || exit 1
ln -sfn "$cloud/instances/$instance" $cloud/instance
for file in instance-id previous-instance-id; do echo "$instance" >$cloud/data/$file; done
# Links in /run/cloud-init lead to these.
cp /opt/goloo/baked/status.json /opt/goloo/baked/result.json $cloud/data/
for file in /run/cloud-init/*.json /run/cloud-init/.instance-id; do
    [ ! -f "$file" ] || [ -L "$file" ] || sed -i "s/$old_instance/$instance/g; s/\"$old_name\"/\"$name\"/g" "$file"
done
# Root's queries read these, which went with the other machine.
(umask 077 && : >>$cloud/instance/vendor-data.txt)
data=/run/cloud-init/instance-data.json
[ -e ${data%.json}-sensitive.json ] || (umask 077 && cat $data >${data%.json}-sensitive.json)
for list in /opt/goloo/baked/modules /opt/goloo/baked/again; do
    [ -e $list ] || continue
    while read -r module; do
        [ "$module" = config_scripts_per_instance ] || [ -e "$sem/$module" ] || echo "baked" >"$sem/$module"
    done <$list
done
: >/opt/goloo/baked/used

# The journal of the other machine is in this one's memory.
rm -rf /run/log/journal/*
if [ -d /run/systemd/system ]; then
    systemctl --no-block restart systemd-journald.service
    [ -e /lib/systemd/system/rsyslog.service ] && systemctl is-enabled --quiet rsyslog.service &&
        systemctl --no-block start rsyslog.service
fi

/bin/sh /run/goloo/identity >>$log 2>&1 || echo "the machine's keys can't all be written: status $?"
rm -f /run/goloo/identity
for key in /run/goloo/host_key /run/goloo/host_key.pub; do [ ! -f $key ] || shred -u $key; done

# A disk that is larger than the one that was baked.
while read -r source target _; do [ "$target" != / ] || root=$source; done </proc/self/mounts
folder=/sys/class/block/${root##*/}
# The kernel may have another name for it.
[ -e "$folder" ] || folder=/sys/class/block/$(findmnt -no SOURCE / | sed 's/\[.*//; s,.*/,,')
if [ -e "$folder/partition" ]; then
    read -r start <"$folder/start"
    read -r size <"$folder/size"
    read -r whole <"$folder/../size"
    [ $((whole - start - size)) -lt 4096 ] || grow_root || echo "the root file system can't be grown"
fi

if [ ! -e "$sem/config_scripts_per_instance" ]; then
    echo "goloo" >"$sem/config_scripts_per_instance"
    for script in $cloud/scripts/per-instance/*; do
        [ -f "$script" ] && [ -x "$script" ] || continue
        "$script" >>$log 2>&1 </dev/null || echo "$script failed with status $?"
    done
fi
sync
exit 0
