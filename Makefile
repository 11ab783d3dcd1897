# All of it: `make run`, `make test`. What is missing is set up first; `make help` lists the rest.
TESTBED := .venv/bin/testbed
PYTHON := .venv/bin/python
# tests side by side, a file at a time: what a file's tests share is made once
WORKERS := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
EXPERIMENT ?= topologies/urban-mec.yaml

.PHONY: help setup run test check scenarios bench proto lock clean

help:
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

setup: ## set up what is missing: packages, .venv, the guest kernel
	@/usr/bin/python3 -B setup/setup.py

run: setup ## run the default experiment (EXPERIMENT=topologies/minimal.yaml for another)
	@$(TESTBED) run $(EXPERIMENT)

test: setup check scenarios ## every check and every test

check: setup ## formatting, lint, types, import law, unit tests: a minute, no guest
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy controller nodes testbed benchmarks setup/setup.py setup/lock.py
	@.venv/bin/lint-imports --no-cache
	@$(PYTHON) -m pytest tests/unit $(WORKERS)

scenarios: setup ## experiments in the guest, with what must hold for them
	@$(PYTHON) -m pytest tests/scenarios $(WORKERS)

bench: setup ## all of benchmarks/, most beside something else: tables, and JSON in benchmarks/results/
	@for one in decision tight heads scheduling cluster predictive proof transport decoding moves models agents links wall startup; do $(PYTHON) -m benchmarks.$$one || exit 1; done

proto: setup ## generate the message classes from the .proto files
	@$(PYTHON) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. \
		$$(find controller nodes -name '*.proto')

lock: ## resolve the dependencies of pyproject.toml into requirements.lock, with hashes
	@/usr/bin/python3 setup/lock.py

clean: ## remove what was made in the checkout; the kernel stays in the user's cache
	@rm -rf .venv build runs *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
