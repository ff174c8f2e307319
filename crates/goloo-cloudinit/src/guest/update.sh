# What goloo changed after the machine was created. Every part is a file of its own, which runs now and, since the
# user-data restores what it had said, again at each boot before sshd starts.
failed=0

# later NAME: keeps the part on standard input for later boots, and runs it.
later() {
    put 0700 "/opt/goloo/later/$1" && /bin/sh "/opt/goloo/later/$1" || failed=1
}

unit_before_sshd() {
    put 0644 /etc/systemd/system/goloo-later.service <<'END'
[Unit]
Description=Apply what goloo changed after this machine was created
After=cloud-init.service cloud-init-network.service
Before=ssh.service sshd.service

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for part in /opt/goloo/later/*; do /bin/sh "$$part"; done'

[Install]
WantedBy=multi-user.target
END
    mkdir -p /etc/systemd/system/multi-user.target.wants
    ln -sf /etc/systemd/system/goloo-later.service /etc/systemd/system/multi-user.target.wants/goloo-later.service
}
