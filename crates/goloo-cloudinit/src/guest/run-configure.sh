#!/bin/sh
# Runs the stack's configure.sh once, and keeps its exit status. cloud-init runs this after the document's own
# commands; the unit goloo-configure after cloud-init, in case that one didn't.
folder=/var/lib/goloo/configure
mkdir -p "${folder%/*}"
# Only one process runs it, and only once: the one that creates the folder.
if ! mkdir "$folder" 2>/dev/null; then
    [ -s "$folder/status" ] && exit "$(cat "$folder/status")"
    [ "$(cat "$folder/boot" 2>/dev/null)" = "$(cat /proc/sys/kernel/random/boot_id)" ] && exit 0
    echo "the machine went down while it was running" >"$folder/problem"
    echo 1 >"$folder/status"
    exit 1
fi
cat /proc/sys/kernel/random/boot_id >"$folder/boot"
[ -z "$1" ] || exec >>/var/log/cloud-init-output.log 2>&1
[ -n "$HOME" ] || { HOME=/root && export HOME; }
cd /
/opt/goloo/configure.sh </dev/null
status=$?
echo $status >"$folder/status.new"
mv "$folder/status.new" "$folder/status"
[ $status = 0 ] || echo "goloo: configure.sh failed with exit status $status" >&2
exit $status
