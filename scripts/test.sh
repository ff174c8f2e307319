#!/usr/bin/env bash
# Runs the tests: `test.sh quick` runs those that start neither a machine nor an emulator, `test.sh slow` the others. With
# GOLOO_TEST_ALL=1, the slow ones include what repeats others on another system.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-quick} in
  quick) profile=default ;;
  slow) profile=slow ;;
  *) echo "usage: test.sh quick|slow" >&2; exit 2 ;;
esac
# The real Multipass and the real AWS are tested last, and only by the tests that are meant for them.
multipass=${GOLOO_TEST_MULTIPASS:-}
aws=${GOLOO_TEST_AWS:-}
unset GOLOO_TEST_MULTIPASS GOLOO_TEST_AWS
# The first installation of the emulators takes longer than the time limit of a test, and mostly waits for downloads.
scripts/aws-emulators.sh >/dev/null &
emulators=$!
cargo nextest run --workspace --locked --profile "$profile" --no-run
wait "$emulators"
# Always the whole workspace: for a single crate, some dependencies have fewer features, and the AWS SDK would be built
# again. The programs that tests start are built with the tests of their crates.
cargo nextest run --workspace --locked --profile "$profile" ${GOLOO_TEST_ALL:+--run-ignored all}
if [ "$profile" = slow ] && [ "$multipass" = real ]; then
  GOLOO_TEST_MULTIPASS=real cargo nextest run -p goloo-multipass --locked --profile multipass
fi
if [ "$profile" = slow ] && [ "$aws" = real ]; then
  GOLOO_TEST_AWS=real cargo nextest run --workspace --locked --profile aws
fi
