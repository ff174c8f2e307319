# Three commands do all: `make demo`, `make test` and `make dist`. Everything else is a part of them.
CARGO ?= cargo
GOLOO := target/release/goloo
export GOLOO_TEST_CACHE ?= $(CURDIR)/target/test-cache

.PHONY: demo test test-quick test-slow lint generate check-generated bench dist build build-local set-up set-up-test

build:
	$(CARGO) build --release --locked --bin goloo

# Without AWS, whose SDK takes most of the time to build.
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

# After a change: all tests that start no machine, in under a minute once built.
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
