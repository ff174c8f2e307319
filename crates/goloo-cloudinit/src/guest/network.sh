# The machine's address in the private network of its environment, on the network card with this MAC address: no route,
# no name server. Runs as root at each boot, and when the card is plugged in. With "wait" it waits for the card.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

# Bridges and VLANs may have the card's MAC address too.
find_nic() {
    for path in /sys/class/net/*; do
        [ -e "$path/device" ] && [ "$(cat "$path/address")" = "$mac" ] && echo "${path##*/}" && return
    done
    return 1
}

tries=1
[ "$1" != wait ] || tries=30
until nic=$(find_nic); do
    tries=$((tries - 1))
    if [ $tries = 0 ]; then
        [ "$1" = wait ] || exit 0
        echo "there is no network card with the address $mac" >&2
        exit 1
    fi
    sleep 1
done
# It is part of a bridge, which has the address.
[ ! -e "/sys/class/net/$nic/master" ] || exit 0
# Nothing asks for other addresses there, and no neighbour can announce itself as a router.
! command -v nmcli >/dev/null || nmcli device set "$nic" managed no >/dev/null 2>&1
[ ! -e "/proc/sys/net/ipv6/conf/$nic/accept_ra" ] || echo 0 >"/proc/sys/net/ipv6/conf/$nic/accept_ra"
ip link set dev "$nic" mtu 9000 || true
ip link set dev "$nic" up && ip address replace "$address" brd + dev "$nic"
