# The main targets are `demo`, `test` and `dist`; most of the others are parts of them.
CARGO ?= cargo
GOLOO := target/release/goloo
export GOLOO_TEST_CACHE ?= $(CURDIR)/target/test-cache
# set-up unpacks QEMU here if the installed packages conflict with it.
export PATH := $(CURDIR)/target/qemu/usr/bin:$(PATH)

.PHONY: demo test test-quick test-slow lint generate check-generated bench dist build build-local set-up set-up-test

build:
	$(CARGO) build --release --locked --bin goloo

# Without AWS: building its SDK takes most of the time.
build-local:
	$(CARGO) build --release --locked --bin goloo --no-default-features --features bundled-sqlite,encryption

set-up:
	scripts/set-up.sh run

set-up-test:
	scripts/set-up.sh test

demo: set-up build-local
	scripts/demo.sh $(GOLOO)

test: set-up-test
	scripts/test.sh quick
	scripts/test.sh slow

# For each change: the tests that start neither a machine nor an emulator; about a minute once built.
test-quick:
	scripts/test.sh quick

test-slow:
	scripts/test.sh slow

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

generate:
	GOLOO_GENERATE=1 $(CARGO) nextest run --workspace --locked -E 'package(xtask)'

check-generated:
	$(CARGO) nextest run --workspace --locked -E 'package(xtask)'

bench: build
	scripts/bench.sh $(GOLOO)

# The packages of a release, in target/dist.
dist:
	$(CARGO) run --locked -p xtask -- dist
