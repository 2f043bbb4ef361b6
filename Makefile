# make demo, make test, make lint: each sets up what it needs, once, in .venv. "make help" lists them all.

PYTHON ?= python3
PYTEST_ARGS ?=
# The tests wait more than they compute: six of them at a time keep two cores busy.
WORKERS ?= 6
BENCH_ARGS ?=
STRESS_ARGS ?=
FUZZ_ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
SOURCES := bench bin demo docs localtunnel setup.py tests tools

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# What pip downloads stays in the clone as well, unless its user has a place for it.
export PIP_CACHE_DIR ?= $(CURDIR)/$(VENV)-pip

.NOTPARALLEL:
.PHONY: help demo test test-pythons lint bench stress fuzz deps clean

help:
	@echo 'make demo    serve a sample application through a tunnel, until Ctrl-C'
	@echo 'make test    run the whole suite; PYTEST_ARGS="-k name" goes to pytest. What a test needs and does not find, it skips'
	@echo 'make test-pythons  run its fast part on every other Python, 3.10 to 3.13'
	@echo 'make lint    check style, format and types'
	@echo 'make bench   measure beside haproxy and ssh -R, and over a wire of 100 ms (as root); 17 minutes'
	@echo 'make stress  a minute of load, 9,000 open connections and slow visitors, in both modes of the server; 5 minutes'
	@echo 'make fuzz    hand made-up input to what reads strangers and files, 30 seconds for each target; FUZZ_SECONDS=600 for more'
	@echo 'make deps    install the programs that tests run beside ours (as root), or say what is missing'
	@echo 'make clean   remove what the others have made'

demo: $(VENV)/.demo
	@$(RUN) demo/run.py

test: $(VENV)/.test
	@WORKERS=$(WORKERS) tools/test $(PYTEST_ARGS)

test-pythons: $(VENV)/.test
	@tools/test-pythons $(PYTEST_ARGS)

lint: $(VENV)/.lint
	@$(RUN) -m ruff check $(SOURCES)
	@$(RUN) -m ruff format --check $(SOURCES)
	@$(RUN) -m mypy
	@$(RUN) -m mypy docs/minimal_client.py

bench: $(VENV)/.demo
	@tools/deps bench
	@$(RUN) bench/compare.py $(BENCH_ARGS)
	@$(RUN) bench/wan.py $(BENCH_ARGS)

stress: $(VENV)/.demo
	@tools/deps stress
	@$(RUN) bench/stress.py $(STRESS_ARGS)

fuzz: $(VENV)/.fuzz
	@cd tests && ../$(RUN) -m fuzz $(FUZZ_ARGS)

deps:
	@tools/deps test

clean:
	@rm -rf $(VENV) $(VENV)-* build dist *.egg-info .coverage .coverage.* .fuzz .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find $(SOURCES) -name __pycache__ -prune -exec rm -rf {} +

# The stamps are made last, so that an installation that was cut short is done again. stdout belongs to the commands.
$(VENV)/.demo: setup.py pyproject.toml
	@echo 'Setting up $(VENV) (once) ...' >&2
	@$(RUN) -m pip --version >/dev/null 2>&1 || tools/venv $(VENV) $(PYTHON)
	@$(RUN) -m pip install -qq --editable . >&2
	@touch $@

$(VENV)/.test: $(VENV)/.demo
	@$(RUN) -m pip install -qq --editable '.[test]' >&2
	@touch $@

$(VENV)/.lint: $(VENV)/.demo
	@$(RUN) -m pip install -qq --editable '.[lint]' >&2
	@touch $@

$(VENV)/.fuzz: $(VENV)/.test
	@$(RUN) -m pip install -qq --editable '.[fuzz]' >&2 || \
		{ echo "make fuzz: atheris cannot be installed for $$($(RUN) -V); it has packages for Linux on x86-64." >&2; exit 2; }
	@touch $@
