# The two commands of the README, and what developers use beside them. Each
# makes the environments it needs; Python 3.10 or later and make are enough.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PYTEST := -m pytest -n auto --dist worksteal

# The oldest releases that we support, as pyproject.toml has them.
OLDEST := boto3==1.35.0 botocore==1.35.0 cryptography==44.0.1 filelock==4.0.0 \
	click==8.1.7 rich==13.7.1
OLDEST_AIO := aiobotocore==2.15.0

# What the oldest releases can change: all that touches boto3, botocore, cryptography and
# filelock. Asking a person, the fake STS and the documents are the same there.
ROOMS_OLDEST := tests/_boto tests/_signin tests/_roles tests/_vault tests/_concurrency tests/cli \
	tests/test_imports.py tests/test_private_names.py tests/test_secrets.py

SOURCES := $(shell find src -name '*.py') pyproject.toml README.md

.PHONY: test quick check room newest oldest aio matrix demo fuzz mutants bench clean

# make test: everything that must hold before a change lands.
# make test ROOM=_vault: the tests of one room, on the newest releases.
test: $(if $(ROOM),room,check newest oldest aio)

quick: check $(VENV)/ready         ## what to run after each change: no slow tests
	$(BIN)/python $(PYTEST) -p no:randomly -m "not slow"

room: $(VENV)/ready
	$(BIN)/python $(PYTEST) -p no:randomly tests/$(ROOM)

check: $(VENV)/ready               ## style, types, and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(user_types)
	PYTHONPATH=src $(BIN)/lint-imports --no-logo
	$(BIN)/python tests/mutations.py --check

newest: $(VENV)/ready              ## the suite in random order, on the newest releases
	$(BIN)/python $(PYTEST) --durations=20

oldest: $(VENV)-oldest/ready       ## the suite, on the oldest that we support
	$(VENV)-oldest/bin/python $(PYTEST) $(ROOMS_OLDEST)

aio: $(VENV)-aio/ready $(VENV)-aio-oldest/ready  ## the extra, on what aiobotocore wants
	$(VENV)-aio/bin/python $(PYTEST) tests/aio
	$(VENV)-aio-oldest/bin/python $(PYTEST) tests/aio

matrix:                            ## newest, oldest and aio on each Python from 3.10, and the mutations
	set -e; for minor in 10 11 12 13 14; do \
		for python in python3.$$minor $(HOME)/.pyenv/versions/3.$$minor.*/bin/python; do \
			if $$python -c "" 2>/dev/null; then \
				$(MAKE) newest oldest aio PYTHON=$$python VENV=.venv-3.$$minor; break; \
			fi; \
		done; \
	done
	$(MAKE) mutants

demo: $(VENV)-demo/ready           ## two accounts, one code, against a local STS
	$(VENV)-demo/bin/python examples/demo.py

fuzz: $(VENV)/ready                ## the vault's parser, for SECONDS
	$(BIN)/python tests/_vault/fuzz_envelope.py --seconds $(or $(SECONDS),600)

mutants: $(VENV)/ready             ## break each check once; the suite must notice
	$(BIN)/python tests/mutations.py

bench: $(VENV)/ready               ## what a script waits for, and how often it asks
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/codes_a_day.py
	$(BIN)/python bench/fan_out.py

clean:
	rm -rf .venv .venv-* .wheel build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# In a folder of its own, where a type checker finds the installed wheel and not src.
define user_types
	set -e; python=$(abspath $(BIN))/python; folder=$$(mktemp -d); trap 'rm -r $$folder' EXIT; \
		cp tests/typing_user.py $$folder; cd $$folder; \
		$$python -m mypy --strict --cache-dir=$(CURDIR)/.mypy_cache/user typing_user.py; \
		$$python -m pyright --pythonpath $$python typing_user.py
endef

# The one pip that fills all environments: --group wants 25.1 or later.
PIP := .venv-build/bin/python -m pip

.venv-build/ready:
	$(PYTHON) -m venv --clear $(@D)
	$(PIP) install --quiet 'pip>=25.1'
	touch $@

# The tests see the built wheel, not the source tree. It is built once for all environments.
.wheel/built: $(SOURCES) .venv-build/ready
	rm -rf $(@D)
	$(PIP) wheel --quiet --no-deps --wheel-dir $(@D) .
	touch $@

# An environment's dependencies change with pyproject.toml alone, the wheel with each source.
define environment
	test -x $(@D)/bin/python || $(PYTHON) -m venv --without-pip $(@D)
	$(PIP) --python $(@D)/bin/python install --quiet $(1)
	touch $@
endef

%/ready: %/environment .wheel/built
	$(PIP) --python $(@D)/bin/python install --quiet --force-reinstall --no-deps .wheel/*.whl
	touch $@

$(VENV)/environment: pyproject.toml | .wheel/built
	$(call environment,--upgrade --group dev .wheel/*.whl)

$(VENV)-oldest/environment: pyproject.toml | .wheel/built
	$(call environment,--group test .wheel/*.whl $(OLDEST))

$(VENV)-aio/environment: pyproject.toml | .wheel/built
	$(call environment,--group aio $$(echo .wheel/*.whl)[aio])

$(VENV)-aio-oldest/environment: pyproject.toml | .wheel/built
	$(call environment,--group aio $$(echo .wheel/*.whl)[aio] $(OLDEST_AIO))

$(VENV)-demo/environment: pyproject.toml | .wheel/built
	$(call environment,.wheel/*.whl)

.SECONDARY:
