# Every target is enough by itself on a fresh machine with Python 3.11 and make.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# uv installs in seconds what takes pip minutes; either will do.
UV := $(shell command -v uv 2>/dev/null)
GPU := $(shell command -v nvidia-smi 2>/dev/null)

.PHONY: help setup setup-dev demo test test-slow test-gpu lint format lock benchmark notebook results clean

help:
	@echo "make demo       made-up raw data -> records -> U-Net -> scores and pictures, in minutes"
	@echo "make test       lint and tests"
	@echo "make test-slow  the tests that train for minutes"
	@echo "make test-gpu   the tests that need GPUs, on those of this machine"
	@echo "make benchmark  preprocess against other writers, image codings, input against other loaders, training, evaluation, serving"
	@echo "make notebook   what a records folder holds, in pictures: RECORDS=data/nuclei"
	@echo "make results    where a model fails, in pictures: RUNS=runs/nuclei RECORDS=data/nuclei"
	@echo "make setup      only .venv with the pinned requirements"
	@echo "make lock       requirements*.txt anew from pyproject.toml (needs uv)"

setup: $(VENV)/.installed

setup-dev: $(VENV)/.installed-dev

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "error: Python 3.11 is needed ($(PYTHON) is not there): TensorFlow 2.15 and TensorFlow Addons run on no newer one."; \
	  echo "       Install it (uv python install 3.11, apt install python3.11-venv, brew install python@3.11),"; \
	  echo "       or say where it is: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
	  echo "error: Python 3.11 is needed, $(PYTHON) is $$($(PYTHON) --version)."; exit 1; }
ifdef UV
	$(UV) venv --quiet --python $(PYTHON) $(VENV)
else
	$(PYTHON) -m venv $(VENV)
endif

# $(1): requirements files, as -r arguments
ifdef UV
install = VIRTUAL_ENV=$(VENV) $(UV) pip install --quiet $(1)
else
install = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(1)
endif

$(VENV)/.installed: requirements.txt requirements-gpu.txt pyproject.toml | $(BIN)/python
	$(call install,-r requirements.txt $(if $(GPU),-r requirements-gpu.txt))
	$(call install,--no-deps --editable .)
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(call install,-r requirements.txt -r requirements-dev.txt)
	@touch $@

demo: setup
	rm -rf data/demo-raw data/demo runs/demo
	$(BIN)/python -m preprocess.synthetic nuclei data/demo-raw --images 160
	$(BIN)/python -m preprocess nuclei data/demo-raw data/demo --size 128 --splits.train 0.7 --splits.val 0.15 --splits.test 0.15
	$(BIN)/python -m records info data/demo
	$(BIN)/python train.py data/demo runs/demo --config recipes/demo.yaml
	$(BIN)/python test.py runs/demo data/demo
	$(BIN)/python predict.py runs/demo 'data/demo-raw/*/images/*.png' --out runs/demo/found
	@echo "serve it   $(BIN)/python serve.py runs/demo    (then open http://127.0.0.1:8000)"

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: setup-dev
	$(BIN)/python -m pytest -m slow

test-gpu: setup-dev
	TEST_GPU=1 $(BIN)/python -m pytest -m gpu -rs

benchmark: setup
	$(BIN)/python -m benchmarks.preprocess
	$(BIN)/python -m benchmarks.coding
	$(BIN)/python -m benchmarks.input
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.evaluation
	$(BIN)/python -m benchmarks.serving

RECORDS ?= data/nuclei
notebook: setup-dev
	RECORDS=$(abspath $(RECORDS)) $(BIN)/jupyter execute notebooks/exploratory_data_analysis.ipynb \
	  --output=$(abspath $(RECORDS))/exploratory_data_analysis

empty :=
RUNS ?= runs/nuclei
results: setup-dev
	RUNS=$(subst $(empty) ,:,$(abspath $(RUNS))) RECORDS=$(abspath $(RECORDS)) \
	  $(BIN)/jupyter execute notebooks/results_analysis.ipynb --output=$(abspath $(firstword $(RUNS)))/results_analysis

format: setup-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:
	uv pip compile --quiet --python-version 3.11 pyproject.toml -o requirements.txt
	uv pip compile --quiet --python-version 3.11 pyproject.toml --extra gpu -c requirements.txt -o requirements-gpu.txt
	uv pip compile --quiet --python-version 3.11 pyproject.toml --extra dev -c requirements.txt -o requirements-dev.txt

clean:
	rm -rf $(VENV) build *.egg-info
