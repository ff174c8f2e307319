#!/bin/sh
# The users of the stack and their keys.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022
folder=/etc/ssh/goloo_keys
failed=0

as_user() {
    if command -v runuser >/dev/null; then
        runuser -u "$1" -- /bin/sh -c "$2"
    else
        su -s /bin/sh "$1" -c "$2"
    fi
}

# forget_keys USER: removes the keys in FILE on standard input from the user's own file; as that user, who may have
# made it a link to somewhere else.
forget_keys() {
    id -u "$1" >/dev/null 2>&1 || return 0
    as_user "$1" 'cd 2>/dev/null && [ -f .ssh/authorized_keys ] || exit 0
        while read -r kind key rest; do
            [ -n "$key" ] || continue
            grep -vF "$key" .ssh/authorized_keys >.ssh/goloo-new
            cat .ssh/goloo-new >.ssh/authorized_keys
        done
        rm -f .ssh/goloo-new'
}

# user NAME: an account that may log in with the keys on standard input, and with no other that goloo gave it.
user() {
    new=$folder/$1.new
    cat >"$new"
    if [ -f "$folder/$1" ]; then
        grep -vxFf "$new" "$folder/$1" | forget_keys "$1"
    fi
    chmod 0644 "$new" && mv -f "$new" "$folder/$1" || failed=1
    [ ! -f "/var/lib/goloo/removed/$1" ] && return
    usermod -p '*' -e '' "$1" && rm -f "/var/lib/goloo/removed/$1" || failed=1
}

# without NAME: its logins end, and its home folder stays.
without() {
    [ -f "$folder/$1" ] && forget_keys "$1" <"$folder/$1"
    rm -f "$folder/$1" "/etc/sudoers.d/zz-goloo-$1"
    id -u "$1" >/dev/null 2>&1 || return 0
    mkdir -p /var/lib/goloo/removed && : >"/var/lib/goloo/removed/$1"
    usermod -L -e 1 "$1" || failed=1
    pkill -KILL -u "$1"
    return 0
}

