#!/usr/bin/env bash
# Whole commands beside their floors, measured in one run. `make bench`
#   bench.sh PATH-TO-GOLOO
set -euo pipefail
cd "$(dirname "$0")/.."
goloo=$(realpath "$1")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

cargo build --quiet --release --locked -p goloo-store --examples
floor=$PWD/target/release/examples/list_floor
fill=$PWD/target/release/examples/fill_store
echo 'fn main() {}' > "$out/empty.rs"
rustc -O -C panic=abort -C strip=symbols -o "$out/empty" "$out/empty.rs"

# Mean of a command in milliseconds.
mean() { hyperfine --shell=none --warmup 5 --min-runs "$1" --export-json "$out/run.json" "${@:2}" >/dev/null 2>&1
         python3 -c 'import json,sys; print(" ".join(f"{r[\"mean\"]*1000:.2f}" for r in json.load(open(sys.argv[1]))["results"]))' "$out/run.json"; }
row() { python3 -c 'import sys; n,v,f,l=sys.argv[1],float(sys.argv[2]),float(sys.argv[3]),float(sys.argv[4])
print(f"{n:<32} {v:>9.2f} ms {f:>9.2f} ms   {v/f:>5.2f}x  (to reach {l}x)")' "$@"; }

printf '%-32s %12s %12s\n' what goloo floor
read -r value base <<<"$(mean 50 "$goloo --version" "$out/empty")"
row "--version" "$value" "$base" 1.5
for count in 1 1000 10000; do
  state=$out/state-$count
  "$fill" "$state" "$count"
  export GOLOO_STATE_DIR=$state
  read -r value base <<<"$(mean 20 "$goloo list" "$floor $state")"
  row "list, $count VMs" "$value" "$base" 1.3
done
memory=$( { /usr/bin/env python3 - "$goloo" <<'PY'
import resource, subprocess, sys
subprocess.run([sys.argv[1], "list"], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
PY
} )
echo "list, 10000 VMs: $memory MiB at most (to reach 40)"
read -r value <<<"$(COMPLETE=bash _CLAP_COMPLETE_INDEX=2 mean 20 "$goloo -- goloo ssh vm")"
echo "completion of a name, 10000 VMs: $value ms (to reach 20)"
echo "binary: $(($(stat -c %s "$goloo") / 1024 / 1024)) MiB (to reach 25)"
cargo bench --quiet --locked -p goloo-store --features bench --bench store
