# make demo, make test: both install what they need into .venv first, once.
PYTHON ?= python3
# TORCH=cpu, cu128, auto ...: let uv choose the build of PyTorch; empty: pip takes the index's own.
TORCH ?=
BIN := .venv/bin
STAMP := .venv/installed-$(or $(TORCH),index)
INSTALL = $(BIN)/python -m pip install --quiet
ifneq ($(TORCH),)
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend $(TORCH)
endif

.PHONY: help install demo test lint bench rehearsal course-check check-all course-figures course-curves course-gallery course-times site clean
.DEFAULT_GOAL := help

help:
	@echo "make demo        train a GPT on Shakespeare and let it talk"
	@echo "make test        the whole test suite"
	@echo "make lint        ruff and mypy"
	@echo "make bench       all figures that need no GPU, beside other implementations: a quarter of an hour"
	@echo "make rehearsal   the whole path of a reproduction, small: some minutes on 2 cores"
	@echo "make course-check    all that must hold of the course: some minutes on 2 cores"
	@echo "make check-all       the same, and that its checks catch small mistakes in the lessons' lines,"
	@echo "                     miss what is handed over, and that its figures are measured again"
	@echo "make course-figures  measure what the lessons quote"
	@echo "make course-curves   record the bands that a learner's loss is compared with"
	@echo "make course-gallery  let every lesson's model talk, for the site"
	@echo "make course-times    measure how long each lesson's runs and checks take"
	@echo "make site        the course and the docs as a static site, in site/"
	@echo "make install     only what make demo needs, into .venv"

install: $(STAMP)

demo: install
	$(BIN)/buildgpt demo

test: $(STAMP)-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(STAMP)-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/bench_table.py --check

# PEERS="../build-nanogpt ../nanoGPT" TEXT=tinyshakespeare.txt: measure beside those, learn from that;
# SEEDS=3: each recipe learns three times, which takes thirteen minutes more.
bench: $(STAMP)-dev
	$(BIN)/python benchmarks/cpu.py $(addprefix --peer ,$(PEERS)) $(addprefix --text ,$(TEXT)) \
	  $(addprefix --seeds ,$(SEEDS))
	$(BIN)/python tools/bench_table.py

rehearsal: $(STAMP)-dev
	$(BIN)/python tools/rehearsal.py
	$(BIN)/python tools/babble.py

course-check: $(STAMP)-dev
	OMP_NUM_THREADS=1 $(BIN)/python tools/course.py check

check-all: course-check
	OMP_NUM_THREADS=1 $(BIN)/python tools/course.py mutants
	OMP_NUM_THREADS=1 $(BIN)/python tools/course.py stubs
	OMP_NUM_THREADS=1 $(BIN)/python tools/course.py figures --check

course-figures: $(STAMP)-dev
	OMP_NUM_THREADS=1 $(BIN)/python tools/course.py figures

course-curves: $(STAMP)-dev
	OMP_NUM_THREADS=1 $(BIN)/python tools/course.py curves

course-gallery: $(STAMP)-dev
	OMP_NUM_THREADS=1 $(BIN)/python tools/course.py gallery

course-times: $(STAMP)-dev
	$(BIN)/python tools/course.py times

site: $(STAMP)-dev
	$(BIN)/python tools/site.py

clean:
	rm -rf .venv

.venv/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "buildgpt needs Python 3.11 or newer; call make with PYTHON=python3.12, say"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

$(BIN)/uv: .venv/created
	$(BIN)/python -m pip install --quiet uv

$(STAMP): .venv/created $(if $(TORCH),$(BIN)/uv) pyproject.toml constraints.txt
	@echo "installing what buildgpt needs into .venv, PyTorch above all; this takes some minutes"
	$(INSTALL) -c constraints.txt -e .
	@touch $@

$(STAMP)-dev: $(STAMP)
	@echo "installing what the tests need into .venv"
	$(INSTALL) -c constraints.txt -e '.[dev]'
	@touch $@
