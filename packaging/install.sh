#!/bin/sh
# Installs goloo from a release:
#   sh install.sh                          into ~/.local
#   PREFIX=/usr/local sh install.sh        elsewhere
# GOLOO_BASE_URL is the address of another release, or of a mirror; it has the tarball and SHA256SUMS.
set -eu

fail() {
  echo "error: $1" >&2
  echo "hint: $2" >&2
  exit 1
}

from_source="build goloo from its source: https://github.com/goloo/goloo/blob/main/docs/installing.md"

# The platform as the packages' names have it.
platform() {
  system=$(uname -s)
  machine=$(uname -m)
  case $machine in
    x86_64 | amd64) machine=x86_64 ;;
    aarch64 | arm64) machine=aarch64 ;;
  esac
  case $system in
    Linux) echo "$machine-unknown-linux-gnu" ;;
    Darwin) echo "$machine-apple-darwin" ;;
    *) fail "goloo doesn't support $system" "use Linux or macOS" ;;
  esac
}

has() {
  command -v "$1" >/dev/null 2>&1
}

# download URL FILE
download() {
  if has curl; then
    curl -fsSL -o "$2" "$1"
  elif has wget; then
    wget -q -O "$2" "$1"
  else
    fail "neither curl nor wget is installed" "install one of them, then run this again"
  fi || fail "can't download $1" "check the network and the address; GOLOO_BASE_URL sets another one"
}

sha256() {
  if has sha256sum; then
    sha256sum "$1"
  elif has shasum; then
    shasum -a 256 "$1"
  else
    fail "neither sha256sum nor shasum is installed" "install one of them, then run this again"
  fi
}

# Creates the folder $1 for installed files.
writable() {
  if ! mkdir -p "$1" 2>/dev/null || [ ! -w "$1" ]; then
    fail "no permission to write to $1" "run this as root, or set PREFIX to a folder that you can write to"
  fi
}

# A function, called on the last line: a script that was cut off in transit does nothing.
main() {
  base=${GOLOO_BASE_URL:-https://github.com/goloo/goloo/releases/latest/download}
  if [ -z "${PREFIX:-}" ] && [ -z "${HOME:-}" ]; then
    fail "neither PREFIX nor HOME is set" "set PREFIX to the folder to install to"
  fi
  prefix=${PREFIX:-$HOME/.local}
  target=$(platform)
  writable "$prefix"
  # Below the prefix, so that files are moved on one file system.
  work=$(mktemp -d "$prefix/.goloo-install.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM

  download "$base/SHA256SUMS" "$work/SHA256SUMS"
  line=$(grep -E "^[0-9a-f]{64}  goloo-[^/ ]+-$target\.tar\.gz\$" "$work/SHA256SUMS") ||
    fail "this release has no package for $target" "$from_source"
  tarball=${line##* }
  download "$base/$tarball" "$work/$tarball"
  actual=$(sha256 "$work/$tarball")
  if [ "${actual%% *}" != "${line%% *}" ]; then
    fail "the checksum of $tarball is wrong: nothing was installed" \
      "run this again; if the error persists, the server has a damaged or forged file"
  fi
  mkdir "$work/new"
  tar -xzf "$work/$tarball" -C "$work/new" --strip-components=1
  version=$("$work/new/bin/goloo" --version) ||
    fail "the downloaded goloo doesn't run on this machine: nothing was installed" "$from_source"

  # No file is moved before all can be, and the command is moved last.
  (cd "$work/new" && find bin share -type f) | sort -r >"$work/files"
  while read -r file; do
    writable "$(dirname "$prefix/$file")"
    if [ -d "$prefix/$file" ]; then fail "$prefix/$file is a folder" "remove it, or set PREFIX to another folder"; fi
  done <"$work/files"
  trap '' HUP INT TERM
  while read -r file; do
    mv -f "$work/new/$file" "$prefix/$file"
  done <"$work/files"

  echo "installed $version in $prefix"
  case :$PATH: in
    *:"$prefix/bin":*) ;;
    *) echo "add it to your PATH: export PATH=\"$prefix/bin:\$PATH\"" ;;
  esac
  echo "next: \`goloo doctor\` shows what is missing on this machine and how to install it"
}

main
