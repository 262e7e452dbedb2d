# What a clone needs: `make up` tries Turnout out, `make test` tests it. Both make .venv first, with Python 3.11 or newer.

PYTHON ?= python3
VENV := .venv
CONSTRAINTS := --constraint constraints.txt
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
BUILD ?= docker build
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BUILD_IMAGE = $(BUILD) --tag turnout:$(VERSION) --build-arg VERSION=$(VERSION) --file deploy/image/Dockerfile .
# Processes that run the tests; more than processors, since many tests wait.
WORKERS ?= 3
# The markers of the tests that have a command of their own.
APART := not fault and not wheels and not clients and not browser and not operations and not clickhouse
# A line every few seconds while the command after it runs.
WAITING := echo "installing into $(VENV)"; (while sleep 4; do echo "still installing"; done) & ticker=$$!; trap "kill $$ticker" EXIT;
PROJECTS := pyproject.toml streams/tracking/pyproject.toml

.PHONY: up venv check format test test-newest pins coverage browser assets screenshots clickhouse faults soak operations dist image docs release fuzz bench clean

up: $(VENV)/.local  ## broker, collector, router, forwarders and a simulator of the vendors, on this machine
	@$(BIN)/turnout up --config deploy/example

venv: $(VENV)/.dev  ## everything that working on Turnout needs

check: $(VENV)/.dev  ## format, lint, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file streams/tracking/pyproject.toml
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(VENV)/.dev  ## all but clients, the browser, ClickHouse, the faults, the operations and the wheels
	$(BIN)/python -m pytest -m "$(APART)" -n $(WORKERS) --dist loadfile -p tests.support.cpu

test-newest:  ## the tests with the newest versions that pyproject.toml allows
	rm -rf .venv-newest
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=

pins: test-newest  ## constraints.txt with the newest versions, if the tests pass with them
	(sed -n '/^#/p' constraints.txt; .venv-newest/bin/pip freeze --exclude-editable) > constraints.new
	mv constraints.new constraints.txt

coverage: $(VENV)/.dev  ## the lines that the tests without other processes do not run; whether they pass is for `make test`
	-$(BIN)/python -m coverage run -m pytest -q -m "$(APART) and not kafka" tests/transforms tests/forwarders \
	  tests/language $(addprefix tests/deploy/,config docsgen dryrun terminal) \
	  $(addprefix tests/streams/,collector consent delivery parsing records routing sources steps tracking)
	$(BIN)/python -m coverage report

browser: $(VENV)/.dev  ## clients, and pages in a real browser: needs Chromium, Node, Go, Ruby, PHP, Java and Maven
	$(BIN)/python -m pytest -m "clients or browser"

assets: $(VENV)/.dev  ## the console's editor of rules, of its sources in deploy/console/assets: needs Node
	$(BIN)/python -m tests.deploy.console.assets

screenshots: $(VENV)/.dev  ## pictures of the console and of commands for the documentation: needs Chromium, and free ports 8080 and 9092
	$(BIN)/python -m tests.deploy.console.pictures
	$(BIN)/python -m tests.deploy.terminal.captures

faults: $(VENV)/.dev  ## faults against the oracle, on a real Kafka: needs Java and Maven
	$(BIN)/python -m pytest -m fault

soak: $(VENV)/.dev  ## kills at random moments until 1,000 are counted, an hour long: make soak ARGS="--kills 200 --resume"
	$(BIN)/python -m tests.faults.soak $(ARGS)

clickhouse: $(VENV)/.dev .venv-chdb/.installed  ## the ledger's store on ClickHouse, which runs in a process (533 MB)
	TURNOUT_TESTS_CHDB=$(CURDIR)/.venv-chdb/bin/python $(BIN)/python -m pytest -m clickhouse tests/streams/ledger tests/deploy/runtime/test_ledger.py

.venv-chdb/.installed:
	$(PYTHON) -m venv .venv-chdb
	.venv-chdb/bin/pip install --quiet --disable-pip-version-check chdb-core==26.9.0
	@touch $@

operations: $(VENV)/.dev  ## procedures and the image, on a real Kafka: needs Java and Maven
	$(BIN)/python -m pytest -m operations

dist: $(VENV)/.dev  ## wheels and sdists in dist/, checked, and used in fresh environments
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist streams/tracking
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/python -m pytest -m wheels tests/wheels

image: $(VENV)/.dev  ## the container image, with Docker, Podman or Buildah: make image BUILD="buildah build --format docker"
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist streams/tracking
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .
	$(BUILD_IMAGE)

docs: $(VENV)/.dev  ## the documentation as a site in build/site; fails for a broken link or a page that no index names
	$(BIN)/mkdocs build --quiet --strict

release: docs dist  ## wheels and sdists in dist/, checked, and the container image, tagged with the version
	$(BUILD_IMAGE)

fuzz: $(VENV)/.dev  ## the generated tests with ten times the examples, from new seeds; TURNOUT_FUZZ=SEED repeats one
	TURNOUT_FUZZ=$${TURNOUT_FUZZ:-new} $(BIN)/python -m pytest $$(grep -rlE "fuzzing|hypothesis" tests --include="test_*.py")

bench: $(VENV)/.dev  ## the figures, on a real Kafka
	@set -e; for script in $$(grep -l __main__ tests/benchmarks/*.py); do echo "== $$script"; $(BIN)/python -m $$(echo $${script%.py} | tr / .); done

clean:
	rm -rf .venv .venv-newest .venv-chdb build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Turnout needs Python 3.11 or newer, and this is " + sys.version.split()[0] + ": try make PYTHON=python3.12")'
	@$(WAITING) $(PYTHON) -m venv $(VENV)

# The stamps say what is installed; a change of the dependencies installs anew.
$(VENV)/.local: $(PROJECTS) | $(BIN)/python
	@$(WAITING) $(PIP) --editable streams/tracking --editable '.[local]'
	@touch $@

$(VENV)/.dev: $(PROJECTS) constraints.txt | $(BIN)/python
	$(PIP) $(CONSTRAINTS) --editable streams/tracking --editable '.[dev]'
	@touch $@ $(VENV)/.local
