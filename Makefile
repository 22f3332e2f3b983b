# make demo, make test: both install what they need into .venv first, once.
PYTHON ?= python3
# TORCH=cpu, cu128, auto ...: let uv choose the build of PyTorch; empty: pip takes the index's own.
TORCH ?=
BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet
ifneq ($(TORCH),)
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend $(TORCH)
endif

.PHONY: install demo test lint bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo     train a GPT on Shakespeare and let it talk"
	@echo "make test     the whole test suite"
	@echo "make lint     ruff and mypy"
	@echo "make bench    measure speed against other implementations"
	@echo "make install  only what make demo needs, into .venv"

install: .venv/installed

demo: install
	$(BIN)/buildgpt demo

test: .venv/installed-dev
	$(BIN)/python -m pytest

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed-dev
	$(BIN)/python benchmarks/cpu.py

clean:
	rm -rf .venv

.venv/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "buildgpt needs Python 3.11 or newer; call make with PYTHON=python3.12, say"; exit 1; }
	$(PYTHON) -m venv .venv
	$(if $(TORCH),$(BIN)/python -m pip install --quiet uv)
	@touch $@

.venv/installed: .venv/created pyproject.toml constraints.txt
	@echo "installing what buildgpt needs into .venv, PyTorch above all; this takes some minutes"
	$(INSTALL) -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "installing what the tests need into .venv"
	$(INSTALL) -c constraints.txt -e '.[dev]'
	@touch $@
