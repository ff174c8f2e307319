# Gives the system the hostname "$2" if it has "$1", and says what it has: "new", or "own" if someone chose another one.
# `s`, what makes a command root's, is set in front; "$3" is not empty if cloud-init is going to set "$2" at each boot.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
d=/var/lib/cloud/data/previous-hostname
current=$(cat /etc/hostname 2>/dev/null) || current=$(hostname) || exit
case ${current%%.*} in
"$1")
    # sudo looks it up.
    grep -qE "[[:space:]]$2([[:space:]]|\$)" /etc/hosts ||
        printf '127.0.1.1 %s\n' "$2" | $s tee -a /etc/hosts >/dev/null || exit
    if command -v hostnamectl >/dev/null; then
        $s hostnamectl set-hostname "$2" || exit
    else
        printf '%s\n' "$2" | $s tee /etc/hostname >/dev/null && $s hostname "$2" || exit
    fi
    # From now on the hostname counts as cloud-init's: it follows the next change.
    if [ -n "$3" ] && [ -e "$d" ]; then
        printf '%s\n' "$2" | $s tee "$d" >/dev/null || exit
    fi
    echo new
    ;;
"$2") echo new ;;
*) echo own ;;
esac
