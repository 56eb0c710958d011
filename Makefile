# Every target sets up .venv by itself: Python >= 3.11, make and pip's registry are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_READY := $(VENV)/.ready-demo
PEERS_READY := .venv-peers/.ready
DOCS_READY := $(VENV)/.ready-docs

# Tests on a process for each core; a test by itself runs without: `pytest tests/test_x.py`.
PARALLEL := --numprocesses auto --dist worksteal

# Many tests start processes, and each would compile the sources again where this is set.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo docs test check bench compare dist clean

install: $(READY)

# Without compiling all that is installed (torch, JAX): what is imported is compiled then.
$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vladkit needs Python >= 3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[dev]'
	touch $(READY) $(DEMO_READY) $(DOCS_READY)

$(DEMO_READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vladkit needs Python >= 3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	touch $(DEMO_READY)

$(DOCS_READY): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vladkit needs Python >= 3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[docs]'
	touch $(DOCS_READY)

demo: $(DEMO_READY)  ## The main job on real photographs: index a folder, search it with altered images
	$(BIN)/python examples/demo.py demo

test: $(READY)  ## What CI runs
	$(BIN)/python -m pytest $(PARALLEL)

check: $(READY)  ## Lint, format, types, tests with documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(PARALLEL) -m ''

bench: $(READY)  ## Speed against the article's loop, a bare product, and bare decode + SIFT
	$(BIN)/python benchmarks/encode.py
	$(BIN)/python benchmarks/index.py

# The peers in an environment of their own: with versions of torch that belong together.
$(PEERS_READY): pyproject.toml
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,sfm,test]' imagededup
	touch $(PEERS_READY)

compare: $(PEERS_READY)  ## vladkit and its peers on the same images; DATA="SET SET --distractors FOLDER"
	.venv-peers/bin/python benchmarks/compare.py $(DATA)

docs: $(DOCS_READY)  ## The pages as a site, in build/docs; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --nitpicky --fresh-env --write-all --quiet \
	  -d build/doctrees docs build/docs
	@echo build/docs/index.html

dist:  ## Wheel and sdist in dist/, tried in new environments; see release/check.py for extras
	$(PYTHON) release/check.py

clean:
	rm -rf $(VENV) .venv-dist .venv-peers build dist demo docs/reference/*.rst docs/reference/*/ \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis
