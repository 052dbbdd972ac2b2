# SPDX-License-Identifier: Apache-2.0
# The commands people and CI use. `make setup` is part of every one of them that runs Python.

PYTHON ?= python3
PY := .venv/bin/python
# Where a ROS installation is sourced, our generated libraries stand beside it, not in it.
ifdef AMENT_PREFIX_PATH
export LD_LIBRARY_PATH := $(CURDIR)/.venv/lib:$(LD_LIBRARY_PATH)
endif

.DEFAULT_GOAL := help
.PHONY: help setup setup-to-run test check format demo train-tiny scenes export-tiny evaluate parity precisions \
	agreement engines-check readme lock clean clean-venv

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup:  ## .venv with all wheels, Debian libraries, our interfaces built; quick when nothing changed
	@$(PYTHON) scripts/set_up.py

test: setup  ## every test that needs no GPU and no patience
	$(PY) -m pytest -m "not gpu and not slow"

check: setup  ## lint, formatting and types
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

format: setup  ## mends what ruff can mend
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

setup-to-run:  ## as setup, without what only tests, training and export need
	@$(PYTHON) scripts/set_up.py --to-run

demo: setup-to-run  ## synthetic camera and node as two processes; out/demo.png, out/demo.json
	$(PY) -m qwen3vl_ros.ros.demo

train-tiny: setup  ## a tiny checkpoint, from nothing or FROM=directory; hours, resumable
	$(PY) -m qwen3vl_ros.cli train-tiny $(if $(FROM),--from $(FROM))

scenes: setup  ## docs/scenes.png: what synthetic rooms look like
	$(PY) scripts/contact_sheet.py

export-tiny: setup  ## ONNX engines of the tiny checkpoint
	$(PY) -m qwen3vl_ros.cli export

evaluate: setup  ## accuracy on held-out scenes; out/evaluation.json
	$(PY) -m qwen3vl_ros.cli evaluate

parity: setup  ## all six family shapes against transformers, measured; docs/parity.md
	$(PY) scripts/parity.py

precisions: setup  ## what each precision of both flavours costs, in logits and boxes; docs/precisions.md
	$(PY) scripts/precisions.py

agreement: setup  ## tiny in every precision and both flavours, against the reference
	$(PY) scripts/precisions.py --check

engines-check: agreement  ## that, every pass of TensorRT's graphs, and three cards compiled for
	$(PY) -m pytest tests/offline/test_tensorrt_graphs.py tests/offline/test_tensorrt_build.py

lock: setup  ## pins the exact versions in .venv for everyone on this Python
	$(PY) scripts/lock_versions.py

readme: setup  ## writes the generated tables of README.md anew
	$(PY) scripts/readme.py

clean:  ## what a build or a run leaves, except .venv
	rm -rf build install log out *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find qwen3vl_ros tests -name __pycache__ -prune -exec rm -rf {} +

clean-venv:  ## .venv, so that make setup begins from nothing
	rm -rf .venv build
