# Each target does its own set-up from a bare checkout: Python 3.11 (or later) and make are all it needs.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: train test lint clean
train: $(VENV)/.ready
	$(RUN) main.py --config configs/hologan_blocks.py

test: $(VENV)/.ready-test
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile $(TESTS)

lint: $(VENV)/.ready-test
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: setup.py $(VENV)/bin/python
	$(RUN) -m pip install -q -e .
	touch $@

$(VENV)/.ready-test: setup.py $(VENV)/bin/python
	$(RUN) -m pip install -q -e '.[test]'
	touch $@ $(VENV)/.ready

clean:
	rm -rf $(VENV) build *.egg-info
