# goloo's part: its account, keys, host key, sshd settings, ttl and configure.sh. It runs as root at every
# boot before cloud-init's modules, and needs nothing of the user's document. Every step stands alone: one
# that fails must not take the others away. POSIX sh; without systemd it does what it can.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
umask 022
exec </dev/null

# put MODE PATH: the file gets what is on standard input, whole or not at all. Without hardware acceleration each process
# takes time, and most files of a later boot, or of a copy of a baked machine, are there.
put() {
    new=$2.goloo-new
    [ -d "${2%/*}" ] || mkdir -p "${2%/*}" || return
    [ ! -e "$new" ] && [ ! -L "$new" ] || rm -f "$new" || return
    (umask 077 && cat >"$new") || return
    if cmp -s "$new" "$2"; then
        chmod "$1" "$2"
        rm -f "$new"
        return
    fi
    # Files, not variables: the end of a pipe is a shell of its own. systemd reads a unit when it first starts it.
    case $2 in
    */systemd/system/*.d/*) : >/run/goloo-units-changed ;;
    */systemd/system/*) [ ! -e "$2" ] || : >/run/goloo-units-changed ;;
    esac
    # before-sshd removes it.
    case $2 in
    */sshd.service.d/* | */ssh.service.d/* | /etc/ssh/*sshd* | /opt/goloo/before-sshd | /opt/goloo/users)
        : >/run/goloo-sshd-changed
        ;;
    esac
    chmod "$1" "$new" && mv -f "$new" "$2"
}

has_systemd() {
    [ -d /run/systemd/system ] && command -v systemctl >/dev/null
}

unit_file() {
    for folder in /etc /run /usr/local/lib /usr/lib /lib; do
        [ -f "$folder/systemd/system/$1" ] && echo "$folder/systemd/system/$1" && return
    done
    return 1
}

# sshd is started with a configuration that before-sshd writes at each start, by a drop-in for its unit.
start_sshd_with_it() {
    for unit in ssh.service sshd.service; do
        file=$(unit_file $unit) || continue
        [ -L "$file" ] && continue
        {
            echo "# Written by goloo; see /opt/goloo/before-sshd."
            echo "[Service]"
            echo "ExecStartPre="
            sed -n '/^ExecStartPre=/{/sshd.* -t/!p}' "$file"
            echo "ExecStartPre=/bin/sh /opt/goloo/before-sshd"
            echo "ExecStart="
            sed -n 's,^\(ExecStart=.*\)$,\1 -f /etc/ssh/goloo_sshd_config,p' "$file"
        } | put 0644 "/etc/systemd/system/$unit.d/zz-goloo.conf"
    done
    if ! has_systemd && [ -f /etc/conf.d/sshd ]; then
        sh /opt/goloo/before-sshd
        line='SSHD_CONFIG=/etc/ssh/goloo_sshd_config'
        grep -qx "$line" /etc/conf.d/sshd || echo "$line" >>/etc/conf.d/sshd
    fi
}

# unit NAME: a unit of goloo's own, read from standard input, for this boot and for each later one, even
# where cloud-init doesn't run any more.
unit() {
    put 0644 "/etc/systemd/system/$1" || return
    mkdir -p /etc/systemd/system/multi-user.target.wants
    ln -sf "/etc/systemd/system/$1" "/etc/systemd/system/multi-user.target.wants/$1"
}

# run_unit NAME COMMAND…: starts the unit, else the command in the background. systemd answers when the boot
# is further on, and the boot waits for this script: so nothing here waits for systemd.
run_unit() {
    name=$1
    shift
    if has_systemd; then
        systemctl --no-block start "$name" >/dev/null 2>&1 &
    elif command -v setsid >/dev/null; then
        setsid "$@" >/dev/null 2>&1 &
    else
        "$@" >/dev/null 2>&1 &
    fi
}

# When the machine ends: so many seconds after its first boot.
set_end() {
    [ -s /var/lib/goloo/end ] || echo $(($(date +%s) + $1)) | put 0644 /var/lib/goloo/end
}

# cloud-init runs what lies in this folder after the document's own runcmd, whatever became of that. The unit
# is for documents that change the list of cloud-init's modules.
configure_later() {
    put 0755 /var/lib/cloud/instance/scripts/zz-goloo-configure <<'END'
#!/bin/sh
exec /bin/sh /opt/goloo/run-configure
END
}

# A copy of a baked machine: what the user-data does once was done before its image was made. Those modules count as
# done for this instance, and only for the first one: a later one is made to run them again.
skip_what_was_baked() {
    [ -f /opt/goloo/baked/modules ] && [ ! -e /opt/goloo/baked/used ] || return
    sem=/var/lib/cloud/instance/sem
    mkdir -p $sem
    while read -r module; do
        [ -e "$sem/$module" ] || echo "baked" >"$sem/$module"
    done </opt/goloo/baked/modules
    # Not every cloud-init writes this file anew.
    old=$(cat /opt/goloo/baked/name 2>/dev/null) new=$(uname -n)
    [ -z "$old" ] || [ "$old" = "$new" ] || sed -i "s/\<$old\>/$new/g" /etc/hosts
    : >/opt/goloo/baked/used
}

# Reading all units takes seconds without hardware acceleration.
reload_changed_units() {
    has_systemd && [ -e /run/goloo-units-changed ] || return 0
    systemctl daemon-reload
    rm -f /run/goloo-units-changed
}

# For an sshd that started before this ran. One with the same settings, in a copy of a baked machine, only reads the host
# key.
reload_units() {
    has_systemd || return
    reload_changed_units
    verb=restart
    if [ ! -e /run/goloo-sshd-changed ]; then
        verb=reload
        sh /opt/goloo/before-sshd host-key
    fi
    for unit in ssh.service sshd.service; do
        systemctl is-active --quiet $unit && systemctl --no-block $verb $unit >/dev/null 2>&1 &
    done
}
