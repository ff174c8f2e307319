#!/bin/sh
# Folders of the host (vm.mounts), once, before the document's own commands; later boots mount them by fstab.
fail() {
    echo "goloo: $*" >&2
    exit 1
}

not_mounted() {
    grep -Eqw '9p|virtiofs' /proc/filesystems ||
        fail "the kernel $(uname -r) has neither the 9p nor the virtiofs file system, which vm.mounts needs: use an image with a full kernel"
    fail "can't mount a folder of the host at $1"
}

# add TAG FOLDER ro|rw
add() {
    mkdir -p "$2" || fail "can't create the folder $2"
    grep -q "^$1 " /etc/fstab ||
        printf '%s %s 9p %s,trans=virtio,version=9p2000.L,msize=131072,nofail 0 0\n' "$1" "$2" "$3" >>/etc/fstab
}

# check FOLDER ro|rw
check() {
    mountpoint -q "$1" || not_mounted "$1"
    [ "$2" = ro ] || : "${owner:=$(stat -c %u "$1")}"
}

# own_shares USER: the user gets the number of the owner of the first folder that can be written to, since both
# kinds of file systems pass on the host's numbers. Numbers of system users stay, and so do those that another user has.
own_shares() {
    number=$(id -u "$1") || return
    [ "${owner:-0}" -ge 1000 ] && [ "$owner" != "$number" ] || return
    if getent passwd "$owner" >/dev/null; then
        echo "goloo: $1 isn't the owner of the host's folders: another user has the number $owner" >&2
        return
    fi
    usermod -u "$owner" "$1" && find / -xdev -uid "$number" -exec chown -h "$owner" {} +
}
