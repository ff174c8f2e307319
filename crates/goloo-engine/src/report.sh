# What became of the provisioning, as sections that begin with a mark. All of it is bounded; nothing of it
# fails the script. `follow`, `login` and `s`, what makes a command root's, are set in front.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
command -v cloud-init >/dev/null || exit 64
t=
if [ -n "$follow" ]; then
    $s tail -n +1 -F /var/log/cloud-init-output.log 2>/dev/null &
    t=$!
fi
configured() {
    [ ! -e /opt/goloo/run-configure ] || [ -s /var/lib/goloo/configure/status ]
}
# Whether a unit will never end by itself: it isn't under way, and nothing waits to start it.
is_over() {
    case $(systemctl show -p ActiveState -p Job "$1") in
    *Job=[1-9]* | *ActiveState=activating*) return 1 ;;
    *ActiveState=inactive*) systemctl is-system-running | grep -qE 'running|degraded' ;;
    esac
}
# cloud-init may end without a result: a part handler that exits, an `output` that nobody reads.
gave_up() {
    [ $((waited % 10)) = 9 ] && command -v systemctl >/dev/null || return 1
    is_over cloud-final.service && { configured || is_over goloo-configure.service; }
}
waited=0
until [ -e /run/cloud-init/result.json ] && configured || gave_up; do
    sleep 1
    waited=$((waited + 1))
done
[ -z "$t" ] || { sleep 1; kill $t 2>/dev/null; }
# What was provisioned is written to disk before it counts.
sync
# The status may lag behind the result for a moment. If it stays "running", a stage exited without an end.
tries=0
while :; do
    status=$($s cloud-init status --format=json 2>/dev/null | head -c 524288)
    case $status in
    *'"status": "running"'*) ;;
    *) break ;;
    esac
    [ -e /run/cloud-init/result.json ] && [ $tries -lt 5 ] || break
    sleep 1
    tries=$((tries + 1))
done
echo @goloo:status@
printf '%s\n' "$status"
[ -e /run/cloud-init/result.json ] || echo @goloo:incomplete@
echo @goloo:log@
# Of a stage that failed only this boot's log counts: a reboot breaks stages off.
$s cat /var/log/cloud-init.log 2>/dev/null | awk '
    /\[(WARNING|ERROR|CRITICAL)\]: / { print }
    / running .init-local. / { failed = "" }
    /: finish: [a-z-]*: FAIL/ { failed = failed $0 "\n" }
    END { printf "%s", failed }' | tail -n 200 | cut -c 1-1000 | head -c 65536
echo
echo @goloo:configure@
if [ -e /opt/goloo/run-configure ] && [ ! -s /var/lib/goloo/configure/status ]; then
    echo "it did not finish"
fi
head -c 100 /var/lib/goloo/configure/status 2>/dev/null
head -c 1000 /var/lib/goloo/configure/problem 2>/dev/null
echo
echo @goloo:sshd@
head -c 2000 /var/lib/goloo/sshd.problem 2>/dev/null
echo
echo @goloo:login@
if [ -n "$login" ]; then
    shell=$(getent passwd "$login" 2>/dev/null || grep "^$login:" /etc/passwd) || echo "there is no such user"
    shell=${shell##*:}
    case $shell in
    '') ;;
    */nologin | */false) echo "its shell, $shell, lets nobody in" ;;
    *) [ -x "$shell" ] || echo "its shell, $shell, does not exist" ;;
    esac
fi
echo @goloo:end@
