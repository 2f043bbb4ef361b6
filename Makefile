# make demo, make test, make lint: each sets up what it needs, once, in .venv. "make help" lists them all.

PYTHON ?= python3
PYTEST_ARGS ?=
WORKERS ?= 2
BENCH_ARGS ?=
STRESS_ARGS ?=
FUZZ_ARGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
SOURCES := bench bin demo localtunnel setup.py tests

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore

.NOTPARALLEL:
.PHONY: help demo test lint bench stress fuzz deps clean

help:
	@echo 'make demo    serve a sample application through a tunnel, until Ctrl-C'
	@echo 'make test    run the whole suite, then its fast part on every other Python; PYTEST_ARGS="-k name" goes to pytest'
	@echo 'make lint    check style, format and types'
	@echo 'make bench   measure beside haproxy and ssh -R, and over a wire of 100 ms (as root); 11 minutes'
	@echo 'make stress  a minute of load, 9,000 open connections and slow visitors, in both modes of the server; 5 minutes'
	@echo 'make fuzz    hand made-up input to what reads strangers and files, 30 seconds for each target; FUZZ_SECONDS=600 for more'
	@echo 'make deps    install what Debian must provide (as root), or say what is missing'
	@echo 'make clean   remove what the others have made'

demo: $(VENV)/.demo
	@$(RUN) demo/run.py

test: deps $(VENV)/.test
	@$(RUN) -m pytest -n $(WORKERS) --dist loadfile -m 'not alone and not bench' $(PYTEST_ARGS) || [ $$? = 5 ]
	@$(RUN) -m pytest -m 'alone and not bench' $(PYTEST_ARGS) || [ $$? = 5 ]
	@tools/test-pythons $(PYTEST_ARGS)

lint: $(VENV)/.lint
	@$(RUN) -m ruff check $(SOURCES)
	@$(RUN) -m ruff format --check $(SOURCES)
	@$(RUN) -m mypy

bench: $(VENV)/.demo
	@tools/deps bench $(PYTHON)
	@$(RUN) bench/compare.py $(BENCH_ARGS)
	@$(RUN) bench/wan.py $(BENCH_ARGS)

stress: $(VENV)/.demo
	@tools/deps stress $(PYTHON)
	@$(RUN) bench/stress.py $(STRESS_ARGS)

fuzz: $(VENV)/.fuzz
	@cd tests && ../$(RUN) -m fuzz $(FUZZ_ARGS)

deps:
	@tools/deps test $(PYTHON)

clean:
	@rm -rf $(VENV) $(VENV)-* build dist *.egg-info .coverage .coverage.* .fuzz .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find bin demo localtunnel tests tools -name __pycache__ -prune -exec rm -rf {} +

# The stamps are made last, so that an installation that was cut short is done again. stdout belongs to the commands.
$(VENV)/.demo: setup.py pyproject.toml
	@tools/deps demo $(PYTHON)
	@echo 'Setting up $(VENV) (once) ...' >&2
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) >&2
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
