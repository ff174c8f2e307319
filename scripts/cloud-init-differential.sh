#!/bin/sh
# Sets up the real cloud-init for differential tests: unpacked in target/cloud-init, never installed or enabled on this
# machine. Does nothing if it is already there. Prints the folder.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
root=${CARGO_TARGET_DIR:-$here/target}/cloud-init

# Two test runs at once must not build in the same folder.
mkdir -p "$root"
exec 9>"$root/lock"
flock 9

if [ ! -e "$root/ready" ]; then
    rm -rf "$root/download" "$root/unpacked" "$root/venv"
    mkdir -p "$root/download"
    (cd "$root/download" && apt-get -qq download cloud-init >&2)
    dpkg -x "$root"/download/cloud-init_*.deb "$root/unpacked"
    python3 -m venv "$root/venv"
    "$root/venv/bin/pip" install --quiet --disable-pip-version-check \
        configobj jinja2 jsonpatch jsonschema oauthlib pyserial pyyaml requests setuptools >&2

    PYTHONPATH="$root/unpacked/usr/lib/python3/dist-packages" \
        "$root/venv/bin/python" -c 'import cloudinit.handlers.cloud_config, cloudinit.user_data, cloudinit.config.schema' >&2
    touch "$root/ready"
fi
echo "$root"
