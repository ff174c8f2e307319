#!/bin/bash
# The first process of a guest root: mounts, then reaps until its standard input ends. Its end is the end of
# every process in the namespaces. Arguments: the image's tree, and an empty folder for this run.
set -eu
tree=$1
run=$2
root=$run/root
mkdir "$run/layers" "$root"
mount -t tmpfs -o mode=700,size=1g tmpfs "$run/layers"
mkdir "$run/layers/upper" "$run/layers/work"
mount -t overlay -o "lowerdir=$tree,upperdir=$run/layers/upper,workdir=$run/layers/work" overlay "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
while read -r name major minor; do
  mknod -m 666 "$root/dev/$name" c "$major" "$minor"
done <<END
null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
END
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for pair in 0:stdin 1:stdout 2:stderr; do ln -s "fd/${pair%%:*}" "$root/dev/${pair#*:}"; done
: > "$root/dev/console"
chroot "$root" ip link set lo up
hostname "$(cat "$root/etc/hostname")"
echo ready
while read -r _; do :; done
