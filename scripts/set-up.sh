#!/usr/bin/env bash
# Installs what is missing on a Debian or Ubuntu machine.
#   set-up.sh run    what goloo needs to make local VMs
#   set-up.sh test   that, and what the tests need
# What is there already is left alone; the package lists are fetched only when something is missing.
set -euo pipefail

run_commands=(qemu-system-x86_64 qemu-img ssh)
# What `goloo image build` needs, for machines with no way to a published image.
build_commands=(mmdebstrap mke2fs mkfs.vfat mformat sfdisk grub-mkimage)
test_commands=(python3 hyperfine strace node npm lintian shellcheck ruby man curl wget dpkg-shlibdeps)

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

install() {
  as_root apt-get update -qq
  local apt=(apt-get install -y -qq --no-install-recommends)
  # Newer parts of QEMU from elsewhere can stand in the way of the distribution's qemu-system-x86: apt fails, or
  # would remove them.
  if as_root env DEBIAN_FRONTEND=noninteractive "${apt[@]}" --no-remove "$@"; then return; fi
  local suite
  suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
  as_root env DEBIAN_FRONTEND=noninteractive "${apt[@]}" --allow-downgrades "$@" \
    "qemu-utils/$suite" "qemu-system-common/$suite" "qemu-system-data/$suite"
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
# Debian keeps a part of Python's venv in a package of its own.
if [ "${1:-run}" = test ] && ! python3 -c 'import ensurepip' 2>/dev/null; then missing+=(python3-venv); fi
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing: ${missing[*]}" >&2
  install "${missing[@]}"
  mapfile -t missing < <(lacking)
  if [ ${#missing[@]} -gt 0 ]; then
    echo "still missing: ${missing[*]}; install them by hand, then run this again" >&2
    exit 1
  fi
fi
if [ "${1:-run}" = test ] && ! cargo nextest --version >/dev/null 2>&1; then
  echo "installing cargo-nextest" >&2
  cargo install --locked cargo-nextest
fi
