# `make run` bills the users of this machine; `make test` runs every test; `make bench` measures everything.

# `dev` builds faster and runs slower.
PROFILE ?= release
CARGO ?= cargo
CONFIG ?= config/rated.toml

build_dir := $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

.PHONY: run test bench

# The state stays in state/, so that a second run goes on where the first one ended.
run:
	$(CARGO) build --locked --profile $(PROFILE) --workspace --exclude rated-tests
	@exec $(build_dir)/rated serve --config $(CONFIG) --print-bill

test:
	tests/setup.sh
	tests/run.sh

# The table is kept in target/bench/table.md. On 2 cores it takes less than 20 minutes once everything is built.
bench:
	tests/setup.sh bench
	daemon/benches/compare.sh --full
