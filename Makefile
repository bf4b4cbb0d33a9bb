# make demo            hear a recording come back from its codes (IN=your.wav, or the sample of the repository)
# make test            every check: ruff, mypy, pytest
# make default DATA=DIR   train the embedded default anew, from speech with phones in its manifest (on a GPU:
#                         DEVICE=cuda WORKERS=12 TRAIN="bfloat16=false batch_size=32 crop_seconds=2" for the first leg,
#                         LEGS="bfloat16=false" for the encoder's and the decoder's; TEACHER=... for the teacher's)
# All set up what they need in a virtual environment.

PYTHON ?= python3
VENV ?= .venv
IN ?= speechtok/assets/sample.flac
OUT ?= demo

BIN = $(VENV)/bin
PIP = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

DATA ?= $(SPEECHTOK_DATA)
RUNS ?= runs
DEVICE ?= cpu
WORKERS ?= 0
TEACHER ?=
TRAIN ?=
LEGS ?=

.PHONY: demo test default clean

demo: $(VENV)/demo.ready
	$(BIN)/speechtok roundtrip $(IN) $(OUT)/reconstruction.wav --plot $(OUT)/tokens.png --force

test: $(VENV)/test.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# From speech to the embedded default, in steps that each go on where they were interrupted (hours on a CPU).
default: $(VENV)/test.ready
	test -n "$(DATA)" || { echo "say where the speech is: make default DATA=DIR"; exit 1; }
	$(BIN)/python training/pretrain_teacher.py --config training/configs/teacher.yaml data=$(DATA) out=$(RUNS)/teacher \
	  device=$(DEVICE) workers=$(WORKERS) $(TEACHER)
	$(BIN)/python -m training.teachers --teacher own:$(RUNS)/teacher/teacher --data $(DATA) --out $(RUNS)/teacher/features \
	  --device $(DEVICE) --workers $(WORKERS)
	$(BIN)/python -m training.teachers --teacher own:$(RUNS)/teacher/teacher --layer phones --aligned 0.5 \
	  --data $(DATA) --out $(RUNS)/teacher/labels --device $(DEVICE) --workers $(WORKERS)
	$(BIN)/python training/train.py --config training/configs/default.yaml data=$(DATA) out=$(RUNS)/default \
	  distillation.features=$(RUNS)/teacher/features distillation.labels=$(RUNS)/teacher/labels \
	  device=$(DEVICE) workers=$(WORKERS) $(TRAIN)
	mkdir -p $(RUNS)/default-encoder $(RUNS)/default-decoder
	test -e $(RUNS)/default-encoder/audio || ln -s ../default/audio $(RUNS)/default-encoder/audio
	test -e $(RUNS)/default-decoder/audio || ln -s ../default/audio $(RUNS)/default-decoder/audio
	$(BIN)/python training/train.py --config training/configs/default-encoder.yaml data=$(DATA) out=$(RUNS)/default-encoder \
	  start_from=$(RUNS)/default/tokenizer \
	  distillation.features=$(RUNS)/teacher/features distillation.labels=$(RUNS)/teacher/labels \
	  device=$(DEVICE) workers=$(WORKERS) $(LEGS)
	$(BIN)/python training/train.py --config training/configs/default-decoder.yaml data=$(DATA) out=$(RUNS)/default-decoder \
	  start_from=$(RUNS)/default-encoder/tokenizer device=$(DEVICE) workers=$(WORKERS) $(LEGS)
	cp $(RUNS)/default-decoder/tokenizer/config.json $(RUNS)/default-decoder/tokenizer/model.safetensors speechtok/assets/

clean:
	rm -rf $(VENV) $(OUT) build *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.ready: setup.cfg setup.py speechtok/nn/native.c constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[plot]"
	touch $@

$(VENV)/test.ready: setup.cfg setup.py speechtok/nn/native.c constraints.txt | $(VENV)/bin/python
	$(PIP) --editable ".[bench,dev,examples,lm,train]"
	touch $@ $(VENV)/demo.ready
