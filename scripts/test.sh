#!/usr/bin/env bash
# Runs the tests: `test.sh quick` those that start no machine, `test.sh slow` those that do.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-quick} in
  quick) profile=default ;;
  slow) profile=slow ;;
  *) echo "usage: test.sh quick|slow" >&2; exit 2 ;;
esac
# The real Multipass and the real AWS are the last to be asked, by the tests that are meant for them.
multipass=${GOLOO_TEST_MULTIPASS:-}
aws=${GOLOO_TEST_AWS:-}
unset GOLOO_TEST_MULTIPASS GOLOO_TEST_AWS
# A first installation takes longer than a test may.
scripts/aws-emulators.sh >/dev/null
# All crates at once, always: of one crate alone some dependencies have fewer features, and AWS's SDK would
# be built once more. The programs that tests start are built with the tests of their crates.
cargo nextest run --workspace --locked --profile "$profile"
if [ "$profile" = slow ] && [ "$multipass" = real ]; then
  GOLOO_TEST_MULTIPASS=real cargo nextest run -p goloo-multipass --locked --profile multipass
fi
if [ "$profile" = slow ] && [ "$aws" = real ]; then
  GOLOO_TEST_AWS=real cargo nextest run --workspace --locked --profile aws
fi
