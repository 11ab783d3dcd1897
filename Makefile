# All of it: `make run`, `make test`. What is missing is set up first; `make help` lists the rest.
TESTBED := .venv/bin/testbed
PYTHON := .venv/bin/python
EXPERIMENT ?= topologies/urban-mec.yaml

# Pure modules, and a few that could as well be, held to `mypy --strict`; `.importlinter` holds them to their imports.
PURE := controller/chain.py controller/cost.py controller/detect.py controller/model.py controller/moves.py \
	controller/planner.py controller/policies controller/ports.py nodes/codec.py nodes/profile.py \
	testbed/compare.py testbed/compile.py testbed/devices.py testbed/experiment testbed/fidelity.py testbed/percentile.py \
	testbed/plan.py testbed/quantity.py testbed/report/markdown.py testbed/report/rows.py testbed/schedule.py \
	testbed/summary.py testbed/trace testbed/workload.py \
	testbed/cache.py testbed/doctor.py testbed/kernel/build.py testbed/packages.py testbed/progress.py setup/setup.py

.PHONY: help setup run test check scenarios bench proto lock clean

help:
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

setup: ## set up what is missing: packages, .venv, the guest kernel
	@/usr/bin/python3 -B setup/setup.py

run: setup ## run the default experiment (EXPERIMENT=topologies/minimal.yaml for another)
	@$(TESTBED) run $(EXPERIMENT)

test: setup check scenarios ## every check and every test

check: setup ## formatting, lint, types, import law, unit tests: seconds, no guest
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy controller nodes testbed setup/setup.py setup/lock.py
	@.venv/bin/mypy --strict $(PURE)
	@.venv/bin/lint-imports --no-cache
	@$(PYTHON) -m pytest tests/unit

scenarios: setup ## experiments in the guest, with what must hold for them
	@$(PYTHON) -m pytest tests/scenarios

bench: setup ## time what is said to be fast
	@$(PYTHON) -m pytest tests/bench

proto: setup ## generate the message classes from the .proto files
	@$(PYTHON) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. \
		$$(find controller nodes -name '*.proto')

lock: ## resolve the dependencies of pyproject.toml into requirements.lock, with hashes
	@/usr/bin/python3 setup/lock.py

clean: ## remove what was made in the checkout; the kernel stays in the user's cache
	@rm -rf .venv build runs *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
