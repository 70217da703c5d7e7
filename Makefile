# SPDX-License-Identifier: Apache-2.0
# `make run` serves a page at http://localhost:4000, `make test` runs all tests. Both install what is missing.

export LC_ALL := $(if $(LC_ALL),$(LC_ALL),C.UTF-8)

PORT ?= 4000
ARGS ?=
WHAT ?=
FULL ?=

.PHONY: help run test build setup check format docs attacks soak bench fuzz clean install
.DEFAULT_GOAL := help

help:
	@echo 'make run       build, and serve a page at http://localhost:4000 (PORT=5000, ARGS="examples/hello_world.exs")'
	@echo 'make run HTTP3=0  without HTTP/3 (whose libraries come from backports on Debian 12); goes with test and build as well'
	@echo 'make test      build, and run all tests: the C tests, then the Elixir tests and the conformance corpus'
	@echo 'make test FULL=1  also install Chromium, nginx, HAProxy, nghttpx and other clients, and run the tests that need them'
	@echo 'make build     build sparx_port and the Elixir code'
	@echo 'make check     formatting, static analysis, which part includes which, compiler warnings, documents, dialyzer where it is installed'
	@echo 'make format    format the C and the Elixir code, and write the tables, frames and drawings in the documents'
	@echo 'make docs      render the README and the guides to HTML (docs/html/index.html)'
	@echo 'make attacks   each known attack for TIME=5 seconds, with a probe beside it (WHAT=h2 for those on HTTP/2)'
	@echo 'make soak      mixed load for TIME=1800 seconds, on sparx_port built with sanitizers, then as it is'
	@echo 'make bench     measure beside nginx and Cowboy (WHAT=hello for one workload; WHAT=list names them)'
	@echo 'make fuzz      fuzz the C program (TARGET=h1, TIME=seconds; port/README.md names the targets)'
	@echo 'make install   copy sparx_port and its man page to PREFIX (PREFIX=/usr/local)'
	@echo 'make setup     only install the packages that `make test` needs'
	@echo 'make clean     remove what was built'
	@echo
	@echo 'More for the C program alone: make -C port help'

run:
	@scripts/setup run
	@scripts/run --port $(PORT) $(ARGS)

# The last lines list what was skipped and what failed, including the C tests
test:
	@scripts/setup $(if $(FULL),full,test)
	@mix compile
	@mkdir -p _build; rm -f _build/c_tests.failed; failed=; \
	{ $(MAKE) --no-print-directory -j$$(nproc) -C port test 2>&1 || touch _build/c_tests.failed; } | tee _build/c_tests.log; \
	[ ! -e _build/c_tests.failed ] || failed=1; \
	SPARX_C_TESTS="$$PWD/_build/c_tests.log" mix test || failed=1; \
	[ -z "$$failed" ]

setup:
	@scripts/setup test

build:
	@scripts/setup run
	@mix compile

check:
	@$(MAKE) --no-print-directory -C port check
	@mix format --check-formatted
	@mix compile --warnings-as-errors
	@scripts/check_docs
	@scripts/license --check
	@scripts/dialyze

format:
	@$(MAKE) --no-print-directory -C port format
	@mix format
	@scripts/options_table
	@scripts/frames_table
	@scripts/protocol_tables
	@scripts/drawings
	@scripts/license

docs:
	@scripts/setup docs
	@scripts/docs

attacks:
	@scripts/setup test
	@MIX_ENV=test mix compile
	@/usr/bin/python3 test/load/attacks/run --seconds $(or $(TIME),5) $(addprefix --only ,$(WHAT))

soak:
	@scripts/setup test
	@MIX_ENV=test mix compile
	@$(MAKE) --no-print-directory -C port VARIANT=asan all
	@ASAN_OPTIONS=quarantine_size_mb=16 /usr/bin/python3 test/load/soak/run --seconds $(or $(TIME),1800) --port port/_build/asan/sparx_port
	@/usr/bin/python3 test/load/soak/run --seconds $(or $(TIME),1800)

bench:
	@scripts/setup bench
	@MIX_ENV=prod mix compile
	@/usr/bin/python3 bench/run.py $(WHAT)

fuzz:
	@$(MAKE) --no-print-directory -C port fuzz

install:
	@$(MAKE) --no-print-directory -C port install

clean:
	@$(MAKE) --no-print-directory -C port clean
	@rm -rf _build
