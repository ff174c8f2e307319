#!/bin/sh
# goloo's account and how it becomes root. Runs as root: at each boot, before each start of sshd, and behind the
# document's last command, since any of it may have changed the files. With "last" sshd is started where it was
# stopped.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022
home=/var/lib/goloo/home

# append FILE LINE: as a line of its own, also behind one without an end.
append() {
    [ ! -s "$1" ] || [ -z "$(tail -c 1 "$1")" ] || echo >>"$1"
    echo "$2" >>"$1"
}

# A password that is no password (`*`): sshd takes such an account for open, unlike a locked one.
make_account() {
    if id -u goloo >/dev/null 2>&1; then
        entry=$(grep '^goloo:' /etc/passwd)
        case $entry in
        *:/bin/sh) ;;
        *) usermod -s /bin/sh goloo ;;
        esac
        grep -q '^goloo:\*:[0-9]*:[^:]*:[^:]*:[^:]*:[^:]*::' /etc/shadow || usermod -p '*' -e '' goloo
        return
    fi
    mkdir -p /var/lib/goloo
    group=--user-group
    ! grep -q '^goloo:' /etc/group || group='-g goloo'
    if command -v useradd >/dev/null; then
        useradd --system $group --create-home --home-dir $home --shell /bin/sh --password '*' goloo
    elif command -v adduser >/dev/null; then
        addgroup -S goloo && adduser -S -D -G goloo -h $home -s /bin/sh goloo && echo 'goloo:*' | chpasswd -e
    fi
    id -u goloo >/dev/null 2>&1 && return
    # A lock or a file that the tools refuse: the files are written by hand.
    number=899
    while grep -q ":$number:" /etc/passwd /etc/group; do number=$((number - 1)); done
    grep -q '^goloo:' /etc/group || append /etc/group "goloo:x:$number:"
    group=$(sed -n 's/^goloo:[^:]*:\([0-9]*\):.*/\1/p' /etc/group | head -n 1)
    append /etc/passwd "goloo:x:$number:${group:-$number}:goloo:$home:/bin/sh"
    grep -q '^goloo:' /etc/shadow || append /etc/shadow 'goloo:*:1::::::'
    mkdir -p $home
    chown "$number:${group:-$number}" $home
}

becomes_root() {
    if command -v runuser >/dev/null; then
        runuser -u goloo -- sudo -n true
    else
        su -s /bin/sh goloo -c 'sudo -n true'
    fi >/dev/null 2>&1
}

# By a file of its own; where /etc/sudoers reads none, or says something else behind it, in there.
let_it_become_root() {
    if command -v sudo >/dev/null; then
        mkdir -p /etc/sudoers.d
        echo 'goloo ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/zz-goloo
        chmod 0440 /etc/sudoers.d/zz-goloo
        becomes_root && return
        cp -p /etc/sudoers /etc/sudoers.goloo-new || return
        append /etc/sudoers.goloo-new 'goloo ALL=(ALL:ALL) NOPASSWD: ALL'
        visudo -cqf /etc/sudoers.goloo-new && mv -f /etc/sudoers.goloo-new /etc/sudoers
        rm -f /etc/sudoers.goloo-new
    elif [ -d /etc/doas.d ] || command -v doas >/dev/null; then
        mkdir -p /etc/doas.d
        echo 'permit nopass goloo' >/etc/doas.d/goloo.conf
        chmod 0400 /etc/doas.d/goloo.conf
    else
        echo "goloo: this image has neither sudo nor doas, so goloo can't become root" >&2
    fi
}

make_account
for group in adm systemd-journal; do
    grep -q "^$group:" /etc/group || continue
    id -nG goloo | grep -qw "$group" || usermod -a -G "$group" goloo 2>/dev/null || addgroup goloo "$group"
done
let_it_become_root
# sshd uses no keys in folders that others may write to.
chmod go-w /etc/ssh /etc/ssh/goloo_keys 2>/dev/null
if [ "$1" = last ] && [ -d /run/systemd/system ]; then
    for unit in ssh.service sshd.service; do
        systemctl cat $unit >/dev/null 2>&1 || continue
        systemctl is-active --quiet $unit || systemctl --no-block start $unit
        break
    done
fi
exit 0
