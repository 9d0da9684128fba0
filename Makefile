# Working on clew: `make` alone lists what there is. Each target can be the first command in a fresh clone.
#
# PYTHON=python3.12 make ...  makes .venv with that interpreter; without it an existing .venv keeps the one it has.
# Everything generated lies in .venv, build and beside the sources of the native core; `make distclean` removes it all.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test unit faults lint types format bench longrun build asan tor browser strace atheris otel-suite interop fuzz clean distclean asked-python
export PYTHON

# Stamps: .venv holds clew as a user has it (RUN) or with what development needs (DEV); the native core is compiled.
RUN := .venv/.installed-run
DEV := .venv/.installed-dev
COMPILED := .venv/.compiled
NATIVE := $(wildcard src/clew/_hot/*.pyx src/clew/_hot/*.pxd src/clew/_hot/*.pxi src/clew/_hot/*.h src/clew/otel/*.pyx)
# An interpreter that was asked for by name, and is not the one .venv was made with.
OTHER_PYTHON := $(if $(PYTHON),$(if $(filter $(PYTHON),$(shell cat .venv/.python 2>/dev/null)),,asked-python))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUN) build tor ## run the demo: seven parts, the last on a private Tor network on this machine
	@.venv/bin/clew demo

test: $(DEV) build tor browser strace ## run every test (a few minutes)
	@.venv/bin/python tools/run_tests.py

unit: $(DEV) build ## run the unit tests (seconds, no tor)
	@.venv/bin/python -m pytest tests/unit -q

TIMES ?= 1
faults: $(DEV) build tor strace ## run the fault suite: forks, signals, full disks, dead receivers (TIMES=20: until one fails)
	@for run in $$(seq $(TIMES)); do \
		echo "make faults: run $$run of $(TIMES)"; \
		.venv/bin/python -m pytest tests/faults -q --durations=3 || exit 1; \
	done

lint: $(DEV) build ## ruff, import rules, shellcheck
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/lint-imports --no-logo
	.venv/bin/shellcheck .ci/run $(filter-out %.py %.txt,$(wildcard tools/*))

types: $(DEV) build ## mypy, and the native core's types against the compiled module
	.venv/bin/mypy
	.venv/bin/stubtest clew._hot --mypy-config-file pyproject.toml --allowlist tools/stubtest-allow.txt --ignore-unused-allowlist

format: $(DEV) ## lay out the sources as `make lint` wants them
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

bench: $(DEV) build ## measure clew beside its peers (ten minutes, on a quiet machine; QUICK=1: does it work?)
	@.venv/bin/python benchmarks/bench.py $(if $(QUICK),--quick)

longrun: $(DEV) build ## trace for ten minutes on eight threads: memory and ledger
	@.venv/bin/python benchmarks/long_run.py

build: $(COMPILED) ## compile the native core

otel-suite: $(DEV) build ## run OpenTelemetry's own tests on clew's provider (downloads them; a minute)
	@tools/otel-suite

interop: $(DEV) build ## run W3C's trace-context harness against clew (HARNESS=a checkout of w3c/trace-context)
	@.venv/bin/python -m tests.interop.run_harness $(HARNESS)

# So many for each target.
SECONDS := 60
fuzz: $(DEV) build atheris ## look for inputs that break promises of parsers (SECONDS=60 for each, TARGET=names)
	@nice .venv/bin/python -m tests.fuzz.run --target '$(TARGET)' --seconds $(SECONDS)

asan: $(DEV) build ## run the native core's tests under AddressSanitizer
	@tools/asan

tor:
	@tools/need-tor

browser:
	@tools/need-browser

strace:
	@tools/need-strace

atheris:
	@tools/need-atheris

clean: ## remove what was compiled and cached; .venv stays
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache $(COMPILED)
	rm -f src/clew/_hot/*.so src/clew/otel/*.so
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv too
	rm -rf .venv src/*.egg-info

$(COMPILED): setup.py $(NATIVE) $(OTHER_PYTHON) | $(RUN)
	@flock .venv/.build.lock tools/compile
	@touch $@

$(RUN): pyproject.toml $(OTHER_PYTHON)
	@tools/setup run

$(DEV): pyproject.toml $(OTHER_PYTHON)
	@tools/setup dev
