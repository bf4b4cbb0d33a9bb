# make demo            hear a recording come back from its codes (IN=your.wav, or the sample of the repository)
# make test            every check: ruff, mypy, pytest
# Both set up what they need in a virtual environment.

PYTHON ?= python3
VENV ?= .venv
IN ?= speechtok/assets/sample.flac
OUT ?= demo

BIN = $(VENV)/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test clean

demo: $(VENV)/demo.ready
	$(BIN)/speechtok roundtrip $(IN) $(OUT)/reconstruction.wav --plot $(OUT)/tokens.png --force

test: $(VENV)/test.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) $(OUT) build *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.ready: setup.cfg constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[plot]"
	touch $@

$(VENV)/test.ready: setup.cfg constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[bench,dev,lm,train]"
	touch $@ $(VENV)/demo.ready
