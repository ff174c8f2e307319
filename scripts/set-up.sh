#!/usr/bin/env bash
# Installs what is missing on a Debian or Ubuntu machine.
#   set-up.sh run    what goloo needs to create local VMs
#   set-up.sh test   the same, and what the tests need
# Installed packages are never removed or downgraded. The package lists are fetched only if something is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/target/qemu/usr/bin:$PATH

run_commands=(qemu-system-x86_64 qemu-img ssh)
# What `goloo image build` needs, for machines without access to a published image.
build_commands=(mmdebstrap mke2fs mkfs.vfat mformat sfdisk grub-mkimage)
test_commands=(python3 hyperfine strace node npm tmux zsh fish lintian shellcheck ruby man curl wget dpkg-shlibdeps)

packages_for() {
  case $1 in
    qemu-system-x86_64) echo qemu-system-x86 ;;
    qemu-img) echo qemu-utils ;;
    ssh) echo openssh-client ;;
    mke2fs) echo e2fsprogs ;;
    mkfs.vfat) echo dosfstools ;;
    mformat) echo mtools ;;
    sfdisk) echo fdisk ;;
    grub-mkimage) echo grub-common ;;
    node) echo nodejs ;;
    man) echo man-db ;;
    dpkg-shlibdeps) echo dpkg-dev ;;
    *) echo "$1" ;;
  esac
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Runs apt-get without prompts. If another package manager is running, waits for it for up to ten minutes.
apt_get() {
  local log status waiting=no
  log=$(mktemp)
  while true; do
    status=0
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 "$@" 2>"$log" || status=$?
    if [ $status = 0 ] || ! grep -q 'Could not get lock' "$log" || [ $SECONDS -gt 600 ]; then break; fi
    if [ $waiting = no ]; then
      waiting=yes
      echo "waiting for another package manager: $(grep -om1 'held by process.*' "$log")" >&2
    fi
    sleep 2
  done
  cat "$log" >&2
  rm -f "$log"
  return $status
}

# Installs packages without removing or downgrading others.
add() {
  apt_get install -y --no-install-recommends --no-remove "$@"
}

install() {
  echo "fetching the lists of packages" >&2
  apt_get update
  echo "installing: $*" >&2
  if add "$@"; then return; fi
  local others=() package
  for package in "$@"; do
    case $package in qemu-*) ;; *) others+=("$package") ;; esac
  done
  if [ ${#others[@]} = $# ] || { [ ${#others[@]} -gt 0 ] && ! add "${others[@]}"; }; then
    echo "error: apt can't install these packages without removing or downgrading others: ${others[*]}" >&2
    echo "hint: see what is in the way with \`apt-get install -s ${others[*]}\`, install them, then run this again" >&2
    exit 1
  fi
  # The repository of the installed QEMU packages may have the missing ones too.
  local version
  version=$(dpkg-query -W -f '${Version}' qemu-utils 2>/dev/null || true)
  if [ -n "$version" ] && add "qemu-system-x86=$version" 2>/dev/null; then return; fi
  unpack_qemu
}

qemu_packages=(qemu-system-x86 qemu-system-common qemu-system-data qemu-utils seabios ipxe-qemu)

# Installed QEMU packages, often newer ones from another repository, can conflict with the distribution's
# qemu-system-x86. No installed package is replaced: this project gets its own copy, which `make` finds first.
unpack_qemu() {
  local root=$PWD/target/qemu packages libraries suite package
  packages=$(mktemp -d)
  echo "QEMU's packages on this machine conflict with those of the distribution; unpacking a copy into target/qemu" >&2
  # The first of several alternatives; no virtual packages.
  mapfile -t libraries < <(apt-cache depends --important "${qemu_packages[@]}" |
    awk '/Depends:/ { if (!other && $2 !~ /^</) print $2; other = /\|/ }' | sort -u |
    grep -vxF -f <(printf '%s\n' "${qemu_packages[@]}"))
  add "${libraries[@]}"
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  (cd "$packages" && apt-get -qq -o APT::Sandbox::User=root download "${qemu_packages[@]/%//$suite}")
  rm -rf "$root.new" "$root"
  mkdir -p "$root.new"
  for package in "$packages"/*.deb; do dpkg-deb -x "$package" "$root.new"; done
  rm -rf "$packages"
  mv "$root.new" "$root"
  echo "to use goloo outside \`make\`, install qemu-system-x86 from where this machine's qemu-utils is, or set" >&2
  echo "GOLOO_QEMU=$root/usr/bin/qemu-system-x86_64" >&2
}

wanted=("${run_commands[@]}" "${build_commands[@]}")
[ "${1:-run}" = test ] && wanted+=("${test_commands[@]}")
lacking() {
  local command
  for command in "${wanted[@]}"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$command" >/dev/null || packages_for "$command"
  done
}
mapfile -t missing < <(lacking)
# GRUB's modules are files, not commands.
[ -d /usr/lib/grub/i386-pc ] || missing+=(grub-pc-bin)
[ -d /usr/lib/grub/x86_64-efi ] || missing+=(grub-efi-amd64-bin)
# Debian has a part of Python's venv in a separate package.
if [ "${1:-run}" = test ] && ! python3 -c 'import ensurepip' 2>/dev/null; then missing+=(python3-venv); fi
# What building virtiofsd needs.
if [ "${1:-run}" = test ] && ! scripts/virtiofsd.sh find >/dev/null; then
  [ -e /usr/include/cap-ng.h ] || missing+=(libcap-ng-dev)
  [ -e /usr/include/seccomp.h ] || missing+=(libseccomp-dev)
fi
if [ ${#missing[@]} -gt 0 ]; then
  install "${missing[@]}"
  mapfile -t missing < <(lacking)
  if [ ${#missing[@]} -gt 0 ]; then
    echo "error: these packages are still missing: ${missing[*]}" >&2
    echo "hint: install them manually, then run this again" >&2
    exit 1
  fi
fi
if [ "${1:-run}" = test ]; then
  scripts/virtiofsd.sh >/dev/null
fi
if [ "${1:-run}" = test ] && ! cargo nextest --version >/dev/null 2>&1; then
  echo "installing cargo-nextest" >&2
  cargo install --locked cargo-nextest
fi
