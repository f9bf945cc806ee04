# The two commands of the README, and what developers use beside them. Each
# makes the environment it needs; Python 3.10 or later and make are enough.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

# The oldest releases that we support, as pyproject.toml has them.
OLDEST := boto3==1.35.0 botocore==1.35.0 cryptography==44.0.1 filelock==4.0.0

SOURCES := $(shell find src -name '*.py') pyproject.toml

PYTEST := -m pytest -n auto --dist worksteal

.PHONY: test check newest oldest demo fuzz matrix clean

test: check newest oldest          ## everything that must hold before a change lands

check: $(VENV)/ready               ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

newest: $(VENV)/ready              ## the suite, on the newest releases
	$(BIN)/python $(PYTEST)

oldest: $(VENV)-oldest/ready       ## the suite, on the oldest that we support
	$(VENV)-oldest/bin/python $(PYTEST)

demo: $(VENV)-demo/ready           ## two accounts, one code, against a local STS
	$(VENV)-demo/bin/python examples/demo.py

fuzz: $(VENV)/ready                ## the vault's parser, for as long as you like
	$(BIN)/python tests/fuzz_envelope.py --seconds $(or $(SECONDS),600)

clean:
	rm -rf $(VENV) $(VENV)-* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The tests see the built wheel, not the source tree.
$(VENV)/ready: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --upgrade --group dev
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps .
	$(BIN)/python -m pip install --quiet .
	touch $@

$(VENV)-oldest/ready: $(SOURCES)
	test -x $(VENV)-oldest/bin/python || $(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-oldest/bin/python -m pip install --quiet --group test . $(OLDEST)
	$(VENV)-oldest/bin/python -m pip install --quiet --force-reinstall --no-deps .
	touch $@

$(VENV)-demo/ready: $(SOURCES)
	test -x $(VENV)-demo/bin/python || $(PYTHON) -m venv $(VENV)-demo
	$(VENV)-demo/bin/python -m pip install --quiet .
	$(VENV)-demo/bin/python -m pip install --quiet --force-reinstall --no-deps .
	touch $@
