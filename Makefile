# Each target does its own set-up from a bare checkout: Python 3.11 to 3.13 and make are all it needs; demo-page also npm.
PYTHON ?= python3
VENV := .venv
PIP := -m pip --disable-pip-version-check install -qq --root-user-action=ignore
RUN := $(VENV)/bin/python

DATA := data/blocks32
PAGE := build/demo

.PHONY: train test bench demo demo-page lint clean
train: $(VENV)/.ready
	$(RUN) main.py --config configs/hologan_blocks.py
	$(RUN) main.py --config configs/hologan_blocks.py --mode evaluate

# A small trained generator that travels with the project (demo/README.md): its page, and that page as files for any static host.
demo: $(VENV)/.ready-serve
	$(RUN) -m holotf.serve --model demo/chairs

demo-page: $(VENV)/.ready-web
	$(RUN) main.py --config configs/hologan_blocks.py --workdir demo/chairs/1 --mode export --format web --config.export.dir=$(PAGE)

test: $(VENV)/.ready-test
	$(RUN) -m pytest -n auto --maxprocesses 4 --dist loadfile $(TESTS)

lint: $(VENV)/.ready-test
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .

# PEER=SCRIPT races a PyTorch script of your own, in an environment of its own (benchmarks/step.py says what it prints).
bench: $(VENV)/.ready $(if $(PEER),$(VENV)-peer/.ready)
	$(RUN) -m benchmarks.step $(if $(PEER),--peer $(PEER) --peer-python $(VENV)-peer/bin/python)
	$(RUN) -m benchmarks.parts
	$(RUN) -m benchmarks.resample
	$(RUN) -m benchmarks.input
	$(RUN) -m benchmarks.infer
	test -e $(DATA) || $(RUN) -m data_prep blocks --size 32 --count 12500 --test 2500 --out $(DATA)
	$(RUN) -m benchmarks.scaling --data $(DATA)

$(VENV)-peer/.ready:
	$(PYTHON) -m venv $(VENV)-peer
	$(VENV)-peer/bin/python $(PIP) torch==2.13.0 numpy
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: setup.py constraints.txt $(VENV)/bin/python
	$(RUN) $(PIP) -c constraints.txt -e .
	touch $@

$(VENV)/.ready-serve $(VENV)/.ready-web: $(VENV)/.ready-%: setup.py constraints.txt $(VENV)/bin/python
	$(RUN) $(PIP) -c constraints.txt -e '.[$*]'
	touch $@ $(VENV)/.ready

$(VENV)/.ready-test: setup.py constraints.txt $(VENV)/bin/python
	$(RUN) $(PIP) -c constraints.txt -e '.[test]'
	touch $@ $(VENV)/.ready

clean:
	rm -rf $(VENV) $(VENV)-peer build *.egg-info
