#!/bin/sh
# Runs as root before each start of sshd (a drop-in for its unit): writes the configuration that sshd is started
# with, which is goloo's settings in front of the machine's own /etc/ssh/sshd_config. That one is left as it is.
# Where sshd refuses it, goloo's settings stand alone, so that somebody can get in and repair it. With "host-key" it
# only replaces that.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022
theirs=/etc/ssh/sshd_config
ours=/etc/ssh/goloo_sshd_config
host_key=/etc/ssh/goloo_host_ed25519_key
problem=/var/lib/goloo/sshd.problem
sshd=$(command -v sshd) || exit 0
new=$ours.new
mkdir -p /run/sshd /var/lib/goloo

# The machine has one Ed25519 host key: goloo's replaces the one that cloud-init generated.
if [ -f $host_key ] && ! cmp -s $host_key /etc/ssh/ssh_host_ed25519_key; then
    (umask 077 && cp $host_key /etc/ssh/ssh_host_ed25519_key)
    cp $host_key.pub /etc/ssh/ssh_host_ed25519_key.pub
fi
[ "$1" != host-key ] || exit 0

# Users of the stack that nothing has made: a document whose users fail must not lock them out.
while read -r user login; do
    [ -n "$user" ] || continue
    id -u "$user" >/dev/null 2>&1 && continue
    shell=/bin/bash
    [ -x $shell ] || shell=/bin/sh
    useradd --create-home --user-group --shell $shell --password '*' "$user" 2>/dev/null ||
        useradd --create-home -g "$user" --shell $shell --password '*' "$user" || adduser -D -s $shell "$user"
    [ "$login" = login ] || continue
    [ -d /etc/sudoers.d ] && echo "$user ALL=(ALL) NOPASSWD: ALL" >"/etc/sudoers.d/zz-goloo-$user" &&
        chmod 0440 "/etc/sudoers.d/zz-goloo-$user"
done </opt/goloo/users

sh /opt/goloo/access

# What counts by the machine's own configuration.
effective() {
    "$sshd" -T -f "$theirs" "$@" -C user=nobody,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22
}
values() {
    printf '%s\n' "$settings" | sed -n "s/^$1 //p"
}

# sshd wants a host key even to read its settings.
if settings=$(effective 2>/dev/null) || settings=$(effective -h $host_key 2>"$problem.new"); then
    rm -f "$problem" "$problem.new"
    use_theirs=yes
else
    mv "$problem.new" "$problem"
    use_theirs=
fi

own_files=$(ls /etc/ssh/sshd_config.d/*.conf 2>/dev/null | grep -v /00-goloo.conf)
# names KEYWORD: whether the machine's own configuration has it.
names() {
    grep -qsi "^[[:space:]]*$1[[:space:]=]" "$theirs" $own_files
}
names_addresses=
! names ListenAddress || names_addresses=yes

{
    echo "# Written by goloo at each start of sshd; make changes in $theirs."
    echo "HostKey $host_key"
    {
        values hostkey
        # Where the machine's own configuration names none, sshd would take these.
        names HostKey || ls /etc/ssh/ssh_host_rsa_key /etc/ssh/ssh_host_ecdsa_key /etc/ssh/ssh_host_ed25519_key
    } 2>/dev/null | sort -u | while read -r key; do
        [ -f "$key" ] && [ "$key" != $host_key ] && echo "HostKey $key"
    done
    algorithms=$(values hostkeyalgorithms)
    case ,$algorithms, in
    ,, | *,ssh-ed25519,*) ;;
    *) echo "HostKeyAlgorithms $algorithms,ssh-ed25519" ;;
    esac
    # The port and the kind of address that goloo was told of stay open beside others.
    [ "$(values addressfamily)" != inet6 ] || echo "AddressFamily any"
    if [ -n "$use_theirs" ] && [ -z "$names_addresses" ] && ! values port | grep -qx 22; then
        echo "Port 22"
    fi
    files=$(values authorizedkeysfile | sed 's, */etc/ssh/goloo_keys/%u,,')
    case ${files:-.ssh/authorized_keys} in
    none) echo "AuthorizedKeysFile /etc/ssh/goloo_keys/%u" ;;
    *) echo "AuthorizedKeysFile ${files:-.ssh/authorized_keys} /etc/ssh/goloo_keys/%u" ;;
    esac
} >"$new.settings"

# Of two addresses for one port the first that is bound counts, so goloo's comes last.
every_address() {
    [ -z "$names_addresses" ] || echo "ListenAddress 0.0.0.0:22"
}
# Later versions read a file of goloo's account in front of everything; earlier ones have no Include, and of two
# Match blocks the first counts.
with_include() {
    cat "$new.settings"
    echo "Include /etc/ssh/goloo_sshd_account"
    echo "Include $theirs"
    every_address
}
in_one_file() {
    cat "$new.settings"
    every_address
    cat "$theirs" /etc/ssh/goloo_sshd_account
}
alone() {
    grep '^HostKey \|^AuthorizedKeysFile' "$new.settings"
    echo "UsePAM yes"
    for server in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server; do
        [ -x $server ] && echo "Subsystem sftp $server" && break
    done
    cat /etc/ssh/goloo_sshd_account
}
# Whether sshd takes it, and lets goloo in: lists of users to deny grow with each Match block that applies.
lets_goloo_in() {
    "$sshd" -t -f "$new" 2>"$problem.new" || return 1
    "$sshd" -T -f "$new" -C user=goloo,host=localhost,addr=127.0.0.1,laddr=127.0.0.1,lport=22 2>/dev/null |
        grep -Ei '^(denyusers|denygroups|refuseconnection) ' |
        grep -vi 'goloo-denies-nobody$\|refuseconnection no' >"$problem.new"
    [ ! -s "$problem.new" ]
}
chosen=
for form in ${use_theirs:+with_include in_one_file}; do
    $form >"$new"
    if lets_goloo_in; then
        chosen=$form
        rm -f "$problem.new"
        break
    fi
done
if [ -z "$chosen" ]; then
    [ ! -e "$problem.new" ] || mv -f "$problem.new" "$problem"
    alone >"$new"
fi
rm -f "$new.settings"
mv -f "$new" "$ours"
rm -f /run/goloo-sshd-changed
exit 0
