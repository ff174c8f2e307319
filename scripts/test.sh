#!/usr/bin/env bash
# Runs the tests: `test.sh quick` those that start no machine, `test.sh slow` those that do.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-quick} in
  quick) profile=default ;;
  slow) profile=slow ;;
  *) echo "usage: test.sh quick|slow" >&2; exit 2 ;;
esac
# The programs that tests start must be there whatever tests are chosen.
cargo build --quiet --locked -p goloo -p goloo-testkit --bins
# A first installation takes longer than a test may.
scripts/aws-emulators.sh >/dev/null
cargo nextest run --workspace --locked --profile "$profile"
