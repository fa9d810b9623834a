# `make repro` trains the model and writes reports/; `make test` runs the tests. Both install what they need first.
# PYTHON=/path/to/python chooses the interpreter; otherwise the first of the names below that is 3.11 or newer.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install repro test bench ui lint kills fuzz clean

PYTHON ?=
CANDIDATES := $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 python)
VENV := .venv
BIN := $(VENV)/bin
# The stamp's name holds the folder's path: an environment does not work after a move, so it is then made anew.
STAMP := $(VENV)/.installed-$(shell pwd | cksum | cut -d' ' -f1)

help:
	@echo "make repro    install, then run the pipeline: only what changed runs again"
	@echo "make test     install, then run the tests"
	@echo "make bench    install, then measure steps, loader, rows, generation (QUICK=1: a short pass)"
	@echo "make kills    install, then kill trainings N=50 times and see that each goes on as if nothing had been"
	@echo "make fuzz     install, then give N=20000 damaged and hostile inputs to everything that reads"
	@echo "make ui       install, then show the runs in MLflow's page, on this machine alone"
	@echo "make lint     install, then ruff and mypy"
	@echo "make install  make $(VENV) from pyproject.toml and constraints.txt"
	@echo "make clean    remove $(VENV) and caches; results and DVC's cache stay"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@if [ ! -e $@ ]; then \
	  python=; \
	  for name in $(CANDIDATES); do \
	    if "$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	    then python=$$name; break; fi; \
	  done; \
	  if [ -z "$$python" ]; then \
	    echo "error: no Python 3.11 or newer with venv (tried: $(CANDIDATES)); install python3.11 and python3.11-venv, or set PYTHON=" >&2; \
	    exit 1; \
	  fi; \
	  echo "making $(VENV) with $$("$$python" --version)"; \
	  "$$python" -m venv --clear $(VENV); \
	fi
	@echo "installing the pinned packages into $(VENV) (a few minutes the first time)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[demo,serve,dev]'
	@touch $@

repro: $(STAMP)
	@echo "running the pipeline of dvc.yaml, about six minutes on two cores the first time; what did not change is skipped"
	@PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro

test: $(STAMP)
	@$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

bench: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" python -m benchmarks $(if $(QUICK),--quick)

N ?= 50
kills: $(STAMP)
	@$(BIN)/python -m tests.reliability.kills --number $(N)

fuzz: N = 20000
fuzz: $(STAMP)
	@$(BIN)/python -m tests.reliability.fuzz --inputs $(N) --record

ui: $(STAMP)
	@$(BIN)/minivlm ui

lint: $(STAMP)
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m mypy

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache src/*.egg-info
	find src pipelines tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
