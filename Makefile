# One command each; `make` alone lists them. Needs python3 >= 3.11 with venv; what Python needs comes from hash-locked files.

PYTHON ?= python3
UV ?= uv
ARGS ?=
BIN := .venv/bin

# The demo needs no tools for tests: it takes what `make venv` has made, or makes the smaller one.
DEMO := $(if $(wildcard .venv/.stamp),.venv,.venv-demo)
# The distribution's interpreter beside the distribution's nginx and HAProxy: one that was built here without profile-guided
# optimisation would compare compilers.
BENCH_PYTHON ?= $(shell /usr/bin/python3 -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo /usr/bin/python3 || echo $(PYTHON))
COMPILE := $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --no-emit-find-links

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test test-quick test-clients lint bench mutants schemas lock clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

venv: .venv/.stamp ## Make the virtual environment for development (again only if a lock changes)

demo: $(DEMO)/.stamp ## Run the sidecar on 127.0.0.1:8080 with an example workspace and tokens to try
	@$(DEMO)/bin/sidecar demo $(ARGS)

test: .venv/.stamp ## Run the whole test suite (ARGS="-k name" for a part)
	$(BIN)/pytest $(ARGS)

test-quick: .venv/.stamp ## Run the tests that take less than a few seconds
	$(BIN)/pytest -m "not slow" $(ARGS)

test-clients: .venv/.stamp ## Build with every client of build caches in every situation, before every kind of store, and write docs/clients.md (half an hour; ARGS="-k Nx" for a part)
	CI=true $(BIN)/pytest -v tests/clients/matrix.py $(ARGS)
	$(BIN)/python -m tests.clients.page

lint: .venv/.stamp ## Check style, format, types and the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

bench: .venv-bench/.stamp ## Measure nginx, HAProxy, a plain proxy and the sidecar side by side
	.venv-bench/bin/python -m bench $(ARGS)

mutants: .venv/.stamp ## Take each clause of the pure modules away and ask whether a test notices (ARGS="sidecar/target.py" for one)
	$(BIN)/python -m tests.mutation.run $(ARGS)

schemas: .venv/.stamp ## Write the JSON Schemas in config/schemas anew
	for kind in policy cases people config; do $(BIN)/sidecar policy schema --for $$kind > config/schemas/$$kind.schema.json || exit 1; done

lock: ## Bring the hash-locked requirements up to date (needs uv)
	echo 'setuptools>=80' | $(COMPILE) - -o requirements/build.txt
	$(COMPILE) pyproject.toml -o requirements/runtime.txt
	$(COMPILE) --extra aws pyproject.toml -o requirements/aws.txt
	$(COMPILE) --extra dev pyproject.toml -o requirements/dev.txt

clean: ## Remove everything that was made here
	rm -rf .venv .venv-demo .venv-bench .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis bench/results
	find sidecar tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

# setuptools is locked too, and used without an isolated build, which would fetch whatever is newest.
define make-venv
	@$(PYTHON) -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) must be Python 3.11 or newer, with venv (Debian: apt install python3-venv); PYTHON=... names another" >&2; exit 1; }
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/build.txt -r $(1)
	$(@D)/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
endef

.venv/.stamp: requirements/build.txt requirements/dev.txt
	$(call make-venv,requirements/dev.txt)

.venv-demo/.stamp: requirements/build.txt requirements/runtime.txt
	$(call make-venv,requirements/runtime.txt)

.venv-bench/.stamp: PYTHON := $(BENCH_PYTHON)
.venv-bench/.stamp: requirements/build.txt requirements/runtime.txt
	$(call make-venv,requirements/runtime.txt)
