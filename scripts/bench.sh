#!/usr/bin/env bash
# Compares whole commands with lower bounds ("floors") that are measured in the same run. `make bench`
#   bench.sh PATH-TO-GOLOO
set -euo pipefail
cd "$(dirname "$0")/.."
goloo=$(realpath "$1")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export PYTHONDONTWRITEBYTECODE=1

cargo build --quiet --release --locked -p goloo-store --examples
floor=$PWD/target/release/examples/list_floor
fill=$PWD/target/release/examples/fill_store
echo 'fn main() {}' > "$out/empty.rs"
rustc -O -C panic=abort -C strip=symbols -o "$out/empty" "$out/empty.rs"

# Median durations of commands in milliseconds; other processes on the machine would distort the mean.
median() {
  hyperfine --shell=none --warmup 20 --min-runs "$1" --export-json "$out/run.json" "${@:2}" >/dev/null 2>&1
  python3 -c 'import json, sys
print(*("%.2f" % (run["median"] * 1000) for run in json.load(open(sys.argv[1]))["results"]))' "$out/run.json"
}
row() {
  python3 -c 'import sys
what, value, floor, reach = sys.argv[1], *map(float, sys.argv[2:5])
print("%-32s %9.2f ms %9.2f ms   %5.2fx  (target %sx)" % (what, value, floor, value / floor, reach))' "$@"
}

printf '%-32s %12s %12s\n' what goloo floor
read -r value base <<<"$(median 500 "$goloo --version" "$out/empty")"
row "--version" "$value" "$base" 1.5
# With a single VM, startup would dominate: single records are measured without it, below.
for count in 1000 10000; do
  state=$out/state-$count
  "$fill" "$state" "$count"
  export GOLOO_STATE_DIR=$state
  read -r value base <<<"$(median 50 "$goloo list" "$floor $state")"
  row "list, $count VMs" "$value" "$base" 1.3
  read -r value base <<<"$(median 50 "$goloo list" "$goloo list --no-refresh")"
  row "list and its --no-refresh, $count" "$value" "$base" 1.3
done
memory=$( { /usr/bin/env python3 - "$goloo" <<'PY'
import resource, subprocess, sys
subprocess.run([sys.argv[1], "list"], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
PY
} )
echo "list, 10000 VMs: $memory MiB at most (target 40)"
read -r value <<<"$(COMPLETE=bash _CLAP_COMPLETE_INDEX=2 median 50 "$goloo -- goloo ssh vm")"
echo "completion of a name, 10000 VMs: $value ms (target 20)"
echo "binary: $(stat -c %s "$goloo" | numfmt --to=si --format=%.1f)B (target 25 MB)"
cargo bench --quiet --locked -p goloo-store --features bench --bench store
unset GOLOO_STATE_DIR
"$fill" "$out/state-2000" 2000
python3 scripts/bench-bucket.py "$goloo" "$out/state-2000"
python3 scripts/bench-boot.py "$goloo"
python3 scripts/bench-copies.py "$goloo"
python3 scripts/bench-network.py "$goloo"
