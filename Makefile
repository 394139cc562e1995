# Two commands do all set-up: `make demo` trains a simulated arm, `make test` runs the tests.

PYTHON ?= python3
VENV ?= .venv
TASK ?= peg
ARGS ?=
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
FRANKA_STAMP := $(VENV)/.installed-franka
SERVER_STAMP := .venv-franka/.installed
BENCH_STAMP := .venv-bench/.installed

# Tests side by side, a file's on one process, for its fixtures; `wallclock` ones have the machine.
PYTEST := $(BIN)/python -m pytest -q
BESIDE := -n $(JOBS) --dist loadfile
HERE := not hardware and not ros and not franka
NONE := $(if $(ARGS),|| [ $$? -eq 5 ])# a choice of tests (ARGS) may leave a part without any

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-long test-franka test-bench quick lint compile format install \
        install-run install-bench constraints clean

help:  ## Say what can be made.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: install-run  ## Install what running needs, then train the simulated arm (TASK=peg).
	$(BIN)/handrail train $(TASK) $(ARGS)

test: install  ## Install everything, then run linters, types and tests.
	@$(MAKE) --no-print-directory -j 2 lint compile
	$(PYTEST) $(BESIDE) -m "$(HERE) and not long and not wallclock and not slow" $(ARGS) $(NONE)
	$(PYTEST) $(BESIDE) -m "$(HERE) and not long and not wallclock and slow" $(ARGS) $(NONE)
	$(PYTEST) -m "$(HERE) and not long and wallclock" $(ARGS) $(NONE)

test-all: test test-long  ## All of it, also what CI leaves to the night.

test-long: install  ## What only the night runs (ARGS="--shard 1/4": a quarter of it).
	$(PYTEST) $(BESIDE) -m "$(HERE) and long and not wallclock" $(ARGS) $(NONE)
	$(PYTEST) -m "$(HERE) and long and wallclock" $(ARGS) $(NONE)

quick: install  ## Tests that take seconds only.
	$(PYTEST) $(BESIDE) -m "$(HERE) and not long and not wallclock and not slow" $(ARGS) $(NONE)

test-franka: $(FRANKA_STAMP) $(SERVER_STAMP)  ## Run the real Franka client against a simulated robot.
	timeout --kill-after=10 1800 $(BIN)/python -m pytest -m franka tests/host/arms/test_backends.py tests/host/arms/test_reach_on_franka.py $(ARGS)

test-bench: install-bench  ## Run the tests of Meta-World.
	.venv-bench/bin/python -m pytest -m bench tests/host/tasks/test_metaworld.py $(ARGS)

install-bench: $(BENCH_STAMP)  ## Make .venv-bench, for benchmarks/learn.py --suite metaworld.

lint: install  ## Linters and types only.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

compile: install  ## Compile the control code into the cache, beside the linters.
	@$(BIN)/python .ci/compile

format: install  ## Bring the code into shape.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(DEV_STAMP)  ## Make .venv with everything for development.

install-run: $(RUN_STAMP)  ## Make .venv with what training in simulation needs.

$(BIN)/python:
	.ci/system $(PYTHON)
	$(PYTHON) -m venv $(VENV)

$(RUN_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what running needs into $(VENV); the first time takes a minute or two"
	@$(PIP) install --quiet --constraint constraints.txt --editable ".[all]"
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what development needs into $(VENV); the first time takes a minute or two"
	@$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@ $(RUN_STAMP)

$(FRANKA_STAMP): $(DEV_STAMP)
	@$(PIP) install --quiet --constraint constraints.txt --editable ".[dev,franka]"
	@touch $@

# franka-sim wants an older numpy and mujoco than we do: a venv of its own, and a process of its own
$(SERVER_STAMP):
	@echo "installing the server of a simulated Franka into .venv-franka"
	@$(PYTHON) -m venv .venv-franka
	@.venv-franka/bin/python -m pip --disable-pip-version-check install --quiet franka-sim==1.1.7
	@touch $@

# Meta-World pins a mujoco that is older than ours: a virtual environment of its own
$(BENCH_STAMP): pyproject.toml constraints.txt
	@echo "installing what Meta-World needs into .venv-bench"
	@.ci/system $(PYTHON)
	@$(PYTHON) -m venv .venv-bench
	@grep -v '^mujoco' constraints.txt > .venv-bench/constraints.txt
	@.venv-bench/bin/python -m pip --disable-pip-version-check install --quiet \
	  --constraint .venv-bench/constraints.txt --editable ".[bench]" pytest pytest-timeout pytest-xdist
	@touch $@

constraints:  ## Resolve every dependency afresh and write constraints.txt.
	.ci/constraints $(PYTHON)

clean:  ## Remove the virtual environment and what tools left behind.
	rm -rf $(VENV) .venv-franka .venv-bench dist build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
