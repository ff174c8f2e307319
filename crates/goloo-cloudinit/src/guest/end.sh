#!/bin/sh
# Powers the machine off when its ttl is over. The clock is read again and again: it may be set meanwhile.
# Without a readable end nothing is powered off.
end=
while :; do
    said=
    [ ! -f /var/lib/goloo/end ] || read -r said </var/lib/goloo/end
    case $said in
    '' | *[!0-9]*) ;;
    *) end=$said ;;
    esac
    if [ -z "$end" ]; then
        sleep 60
        continue
    fi
    left=$((end - $(date +%s)))
    [ "$left" -gt 0 ] || break
    [ "$left" -lt 60 ] || left=60
    sleep "$left"
done
systemctl poweroff || poweroff || poweroff -f
