# Targets with a comment after ## are listed by `make help`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# A folder in Hugging Face's layout, or a Hub id such as adept/persimmon-8b-chat; make demo takes several, with blanks
# between; empty: the bundled demonstration models
CHECKPOINT ?=
DEVICE ?= auto
DTYPE ?= auto
# Rotary positions as Hugging Face computes them (float32) or as Adept's server did (bfloat16)
ROPE ?= float32
HOST ?= 127.0.0.1
PORT ?= 7860
# make eval: models separated by commas (checkpoints, hf:<checkpoint>, http://.../v1); empty: CHECKPOINT, or all bundled ones
MODELS ?=
# adept, likelihood or demo; empty: demo for the bundled checkpoints, else adept
SUITE ?=
# A folder of JSONL files in the Hub datasets' columns, `hub`, or `demo`; empty: `demo` for the bundled model, else `hub`
DATA ?=
TASKS ?=
LIMIT ?=
# raw, chat or both
CHAT_FORMAT ?= raw
# The original release's tar, or the folder it unpacks to, and the folder to make; TRIM=1 leaves out unused rows
SRC ?=
DST ?=
TRIM ?=
# make finetune: processes (GPUs) to train with, and further options of `python -m model.finetune --help`
METHOD ?= lora
PROCESSES ?= 1
ARGS ?=
# make demo-model: persimmon, mpt or llama
FAMILY ?= persimmon

export GRADIO_ANALYTICS_ENABLED := False
export HF_HUB_DISABLE_TELEMETRY := 1

MODEL_OPTIONS = $(foreach each,$(CHECKPOINT),--checkpoint "$(each)") --device $(DEVICE) --dtype $(DTYPE) \
	--rope-position-dtype $(ROPE)

# Test files side by side, each process on one core; a browser's tests by themselves, since they wait for what is seen
TEST_PROCESSES ?= 2
PYTEST_SIDE_BY_SIDE = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile \
	--no-loadscope-reorder
# Named, since finding tests imports their files with all they need
BROWSER_TESTS = $(shell grep --recursive --files-with-matches --include='test_*.py' 'mark[.]browser' tests | sort)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "Options: CHECKPOINT=<folder or Hub id; make demo takes several> DEVICE=auto|cpu|cuda:N DTYPE=auto|float32|bfloat16|float16 ROPE=float32|bfloat16 PORT=7860"
	@echo "         MODELS=<name,...> SUITE=adept|likelihood|demo DATA=<folder>|hub|demo TASKS=<name,...> LIMIT=<items>"
	@echo "         CHAT_FORMAT=raw|chat|both (make eval)"
	@echo "         DATA=<file> DST=<folder> METHOD=lora|full PROCESSES=1 ARGS=\"...\" (make finetune)"

.PHONY: setup
setup: $(VENV)/.installed $(VENV)/.gpu ## make the virtual environment and install what is pinned (GPU extras where a GPU is found)

$(VENV)/.installed: requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	touch $@

# flash-attn is built from source and may not build everywhere; without it the app says which attention runs instead.
$(VENV)/.gpu: $(VENV)/.installed requirements-gpu.txt
	@if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then \
		$(BIN)/pip install --disable-pip-version-check --no-build-isolation -r requirements-gpu.txt || \
		echo "The GPU extras of requirements-gpu.txt did not install (see above); everything runs without them."; \
	fi
	@touch $@

.PHONY: demo
demo: setup ## open the chat on the bundled small checkpoints (or CHECKPOINT="a b")
	$(BIN)/python -m app $(MODEL_OPTIONS) --host $(HOST) --port $(PORT)

.PHONY: eval
eval: setup ## evaluate the bundled checkpoints offline (or MODELS=a,b SUITE=adept DATA=...), then write results/
	$(BIN)/python -m evals run $(if $(MODELS),--models "$(MODELS)",$(if $(CHECKPOINT),--checkpoint "$(CHECKPOINT)")) \
		--device $(DEVICE) --dtype $(DTYPE) --rope-position-dtype $(ROPE) --chat-format $(CHAT_FORMAT) \
		$(if $(SUITE),--suite $(SUITE)) $(if $(DATA),--data "$(DATA)") $(if $(TASKS),--tasks $(TASKS)) \
		$(if $(LIMIT),--limit $(LIMIT))

.PHONY: results
results: setup ## render results/ again from the records
	$(BIN)/python -m evals report

.PHONY: convert-persimmon
convert-persimmon: setup ## convert Adept's original release: SRC=8b_chat_model_release.tar DST=folder [TRIM=1]
	$(BIN)/python -m model.checkpoint.convert --source "$(SRC)" --destination "$(DST)" \
		$(if $(filter-out auto,$(DTYPE)),--dtype $(DTYPE)) $(if $(TRIM),--trim-vocab)

.PHONY: finetune
finetune: setup ## train a checkpoint further: CHECKPOINT=... DATA=examples.jsonl DST=folder [METHOD=lora|full ARGS="--epochs 1"]
	$(if $(filter-out 1,$(PROCESSES)),$(BIN)/torchrun --standalone --nproc-per-node $(PROCESSES),$(BIN)/python) \
		-m model.finetune --checkpoint "$(or $(CHECKPOINT),model/demo/persimmon-demo)" --data "$(DATA)" \
		--output "$(DST)" --method $(METHOD) $(if $(filter-out auto,$(DEVICE)),--device $(DEVICE)) \
		$(if $(filter-out auto,$(DTYPE)),--dtype $(DTYPE)) $(ARGS)

.PHONY: demo-model
demo-model: setup ## train a bundled checkpoint again, from nothing: FAMILY=persimmon|mpt|llama (CPU, under an hour)
	$(BIN)/python -m model.demo.train --family $(FAMILY)
	$(BIN)/python -m model.demo.bench_items
	$(BIN)/python -m model.demo.measure --family $(FAMILY)
	$(BIN)/python -m model.demo.sentiment --family $(FAMILY)

.PHONY: parity
parity: setup ## compare logits and answers with Hugging Face, and write results/parity.md
	$(BIN)/python -m model.parity

.PHONY: bench-cpu
bench-cpu: setup ## measure beside Hugging Face and lm-eval on this CPU, into results/bench/: ARGS="--vllm-python PYTHON"
	$(BIN)/python -m evals.bench $(ARGS)

.PHONY: compile-kernels
compile-kernels: setup ## compile all GPU kernels for sm_80 and sm_90, no GPU needed, and write results/kernels/compile.md
	$(BIN)/python -m kernels.gpu.compile

.PHONY: bench-kernels
bench-kernels: setup ## check and time all kernels on a GPU, and write results/kernels/bench.md
	$(BIN)/python -m kernels.bench

.PHONY: bench-engine
bench-engine: setup ## measure the engine on a GPU, random full-size weights, beside Hugging Face: ARGS="--minutes 6"
	$(BIN)/python -m evals.bench_engine $(ARGS)

# Without `make setup` too, with a Python that has torch, triton and transformers: a borrowed machine has no network.
.PHONY: gpu-report
gpu-report: ## check and measure all that needs a GPU within nine minutes, and write results/bench/gpu.md
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m evals.gpu_report $(ARGS)

.PHONY: check
check: setup ## lint, types and fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST_SIDE_BY_SIDE) -m "not slow and not browser"

.PHONY: test
test: setup ## all tests (those in a browser need Chromium)
	$(PYTEST_SIDE_BY_SIDE) -m "not browser"
	$(BIN)/python -m pytest -m browser $(BROWSER_TESTS)

.PHONY: clean
clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
