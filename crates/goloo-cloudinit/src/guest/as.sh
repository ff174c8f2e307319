#!/bin/sh
# as USER COMMAND…: runs the command as the user, from its home folder, whatever its login shell is; as goloo
# where there is no such user.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
user=$1
shift
if [ "$1" = sftp-server ]; then
    for server in /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server /usr/lib/ssh/sftp-server; do
        [ -x $server ] && set -- $server && break
    done
fi
if [ "$user" != "$(id -un)" ] && id -u "$user" >/dev/null 2>&1; then
    if command -v sudo >/dev/null; then
        exec sudo -n -H -u "$user" -- /bin/sh -c 'cd 2>/dev/null; exec "$@"' sh "$@"
    fi
    exec doas -n -u "$user" /bin/sh -c 'cd 2>/dev/null; exec "$@"' sh "$@"
fi
cd || cd /
exec "$@"
