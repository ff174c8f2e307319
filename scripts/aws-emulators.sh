#!/bin/sh
# Sets up what plays AWS in tests: two emulators and the judge of templates, in a Python environment below
# target/emulators. Does nothing when these versions are there already. Prints the folder.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
root=${CARGO_TARGET_DIR:-$here/target}/emulators
packages='moto[server]==5.2.5 ministack==1.5.33 cfn-lint==1.58.0'

# Two test runs at once must not build in the same folder.
mkdir -p "$root"
exec 9>"$root/lock"
flock 9

if [ "$(cat "$root/ready" 2>/dev/null)" != "$packages" ]; then
    rm -rf "$root/ready" "$root/venv"
    python3 -m venv "$root/venv"
    # shellcheck disable=SC2086 # one word per package
    "$root/venv/bin/pip" install --quiet --disable-pip-version-check $packages >&2
    "$root/venv/bin/python" -c 'import moto.server, ministack.app, cfnlint' >&2
    # Whole, or not there.
    printf '%s\n' "$packages" >"$root/ready.new"
    mv "$root/ready.new" "$root/ready"
fi
echo "$root"
