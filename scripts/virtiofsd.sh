#!/bin/sh
# Prints the path of a virtiofsd for tests: this system's if goloo can use it, else one that it builds in target/virtiofsd.
# That takes about a minute, once, and needs the packages libcap-ng-dev and libseccomp-dev. `virtiofsd.sh find` fails
# instead of building it.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
root=${CARGO_TARGET_DIR:-$here/target}/virtiofsd
version=1.13.3

for program in virtiofsd /usr/libexec/virtiofsd /usr/lib/virtiofsd; do
    path=$(command -v "$program") || continue
    if "$path" --help 2>/dev/null | grep -q -e --translate-gid; then
        echo "$path"
        exit
    fi
done

is_built() {
    [ "$("$root/bin/virtiofsd" --version 2>/dev/null)" = "virtiofsd $version" ]
}

if [ "${1:-}" = find ]; then
    is_built || exit 1
    echo "$root/bin/virtiofsd"
    exit
fi
# Two test runs at once must not build in the same folder.
mkdir -p "$root"
exec 9>"$root/lock"
flock 9
if ! is_built; then
    # A wrapper for this project's crates would lint those of others.
    env -u RUSTC_WORKSPACE_WRAPPER cargo install --quiet --locked --force --root "$root" --target-dir "$root/build" \
        virtiofsd --version "$version" >&2
    rm -rf "$root/build"
fi
echo "$root/bin/virtiofsd"
