#!/usr/bin/env bash
# Creates a real VM, uses it and deletes it. Leaves only the cached image.
#   demo.sh PATH-TO-GOLOO
set -euo pipefail
goloo=$(realpath "$1")
cd "$(dirname "$0")/.."
state=$(mktemp -d)
export GOLOO_STATE_DIR=$state/state
export GOLOO_CACHE_DIR=${GOLOO_CACHE_DIR:-$PWD/target/cache}

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() { say goloo "$@"; "$goloo" "$@"; }

clean_up() {
  status=$?
  if [ -n "$("$goloo" list -q 2>/dev/null)" ]; then
    "$goloo" logs hello --console 2>/dev/null | tail -n 20 || true
    "$goloo" delete --yes hello || true
  fi
  rm -rf "$state"
  exit $status
}
trap clean_up EXIT

stack=examples/hello
# The published image if it is available, else one built here from packages.
if ! "$goloo" image pull 24.04; then
  echo "The published Ubuntu image is unavailable: building a Debian image from packages instead."
  "$goloo" image build
  stack=$state/hello
  cp -r examples/hello "$stack"
  sed -i "s/\"24.04\"/\"debian-$(. /etc/os-release && echo "$VERSION_ID")\"/" "$stack/config.json"
fi

run create hello --provider qemu -f "$stack" --timeout 20m
run list --refresh
cd /
run ssh hello -- 'cat /etc/motd /var/tmp/hello; uname -sr'
run delete --yes hello
run list --all
