# The two commands of the README, and what developers use beside them. Each
# makes the environments it needs; Python 3.10 or later and make are enough.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PYTEST := -m pytest -n auto --dist worksteal

# The oldest releases that we support, as pyproject.toml has them.
OLDEST := boto3==1.35.0 botocore==1.35.0 cryptography==44.0.1 filelock==4.0.0
OLDEST_AIO := aiobotocore==2.15.0

SOURCES := $(shell find src -name '*.py') pyproject.toml

.PHONY: test check newest oldest aio matrix demo fuzz mutants bench clean

test: check newest oldest aio      ## everything that must hold before a change lands

check: $(VENV)/ready               ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=src $(BIN)/lint-imports --no-logo

newest: $(VENV)/ready              ## the suite, on the newest releases
	$(BIN)/python $(PYTEST)

oldest: $(VENV)-oldest/ready       ## the suite, on the oldest that we support
	$(VENV)-oldest/bin/python $(PYTEST)

aio: $(VENV)-aio/ready $(VENV)-aio-oldest/ready  ## the extra, on what aiobotocore wants
	$(VENV)-aio/bin/python $(PYTEST) tests/aio
	$(VENV)-aio-oldest/bin/python $(PYTEST) tests/aio

matrix:                            ## newest, oldest and aio on each Python from 3.10 that is here
	set -e; for minor in 10 11 12 13 14; do \
		for python in python3.$$minor $(HOME)/.pyenv/versions/3.$$minor.*/bin/python; do \
			if $$python -c "" 2>/dev/null; then \
				$(MAKE) newest oldest aio PYTHON=$$python VENV=.venv-3.$$minor; break; \
			fi; \
		done; \
	done

demo: $(VENV)-demo/ready           ## two accounts, one code, against a local STS
	$(VENV)-demo/bin/python examples/demo.py

fuzz: $(VENV)/ready                ## the vault's parser, for SECONDS
	$(BIN)/python tests/_vault/fuzz_envelope.py --seconds $(or $(SECONDS),600)

mutants: $(VENV)/ready             ## remove each check of the vault; the suite must notice
	$(BIN)/python tests/mutations.py

bench: $(VENV)/ready               ## what a script waits for, and how often it asks
	$(BIN)/python bench/startup.py
	$(BIN)/python bench/codes_a_day.py
	$(BIN)/python bench/fan_out.py

clean:
	rm -rf .venv .venv-* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The tests see the built wheel, not the source tree.
define install
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade pip
	$(@D)/bin/python -m pip install --quiet $(1)
	$(@D)/bin/python -m pip install --quiet --force-reinstall --no-deps .
	touch $@
endef

$(VENV)/ready: $(SOURCES)
	$(call install,--upgrade --group dev .)

$(VENV)-oldest/ready: $(SOURCES)
	$(call install,--group test . $(OLDEST))

$(VENV)-aio/ready: $(SOURCES)
	$(call install,--group aio '.[aio]')

$(VENV)-aio-oldest/ready: $(SOURCES)
	$(call install,--group aio '.[aio]' $(OLDEST_AIO))

$(VENV)-demo/ready: $(SOURCES)
	$(call install,.)
