#!/bin/sh
# Written by goloo. scp runs this in place of ssh: the program on the other side runs as the VM's login user.
# The last word is the program, or with -s the name of sshd's subsystem.
subsystem=
for word do
    shift
    if [ "$word" = -s ]; then
        subsystem=yes
    else
        set -- "$@" "$word"
    fi
done
program=$word
count=$#
for word do
    shift
    count=$((count - 1))
    [ $count = 0 ] || set -- "$@" "$word"
done
# Paths in an older scp's command line are for the login user's shell to expand, not for goloo's.
if [ -n "$subsystem" ]; then
    program=sftp-server
else
    program="/bin/sh -c '$(printf %s "$program" | sed "s/'/'\\\\''/g")'"
fi
exec ssh "$@" "exec /opt/goloo/as $GOLOO_SCP_USER $program"
