# Every target works in a fresh clone: it makes .venv when there is none and installs again when pyproject.toml changes.
# PYTHON chooses the interpreter that .venv is made with, 3.11 or newer: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: test demo test-icarus test-long check prove bench figures accuracy wheel clean

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not long and not icarus" -n auto --dist loadfile

demo: $(INSTALLED)
	@start=$$(date +%s); rm -rf out/train; \
	$(BIN)/hwsim train digits-cnn --data digits --hw edge-32x32-bf16 --epochs 10 --learning-rate 0.05 --out out/train && \
	echo && \
	$(BIN)/hwsim step resnet18 --hw edge-32x32-bf16 --batch 128 --optimizer momentum --out out/demo && \
	echo "make demo took $$(( $$(date +%s) - start )) s"

# A second Verilog simulator, with unknowns: sudo apt install iverilog
test-icarus: $(INSTALLED)
	$(BIN)/python -m pytest -m icarus

test-long: $(INSTALLED)
	$(BIN)/python -m pytest -m long

check: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Properties of queues, counters and address generators of the RTL, for ever: docs/rtl-proofs.md.
prove: $(INSTALLED)
	$(BIN)/python -m hwsim_rtl.prove

bench: $(INSTALLED)
	$(BIN)/python tests/bench/bench.py
	$(BIN)/python tests/bench/numerics_bench.py
	$(BIN)/python tests/bench/values_bench.py
	$(BIN)/python tests/bench/sweep_bench.py

# The README's pictures come from a run.
figures: demo
	cp out/demo/cycles.png docs/images/resnet18-cycles.png
	cp out/train/training.png docs/images/digits-cnn-training.png
	$(BIN)/hwsim cosim train digits-mlp --hw edge-8x8-bf16 --epochs 1 --out out/rtl-training
	cp out/rtl-training/training.png docs/images/rtl-training.png
	rm -rf out/sweep && $(BIN)/hwsim sweep docs/spaces/edge-training.toml --out out/sweep
	$(BIN)/python docs/scripts/sweep_page.py out/sweep

# Trains three models in six precisions with three seeds, a quarter of an hour, and writes docs/accuracy.md.
accuracy: $(INSTALLED)
	$(BIN)/python docs/scripts/accuracy.py

wheel: $(INSTALLED)
	$(BIN)/python -m pip wheel --no-deps --wheel-dir dist .

# Removes what the other targets wrote, except .venv.
clean:
	rm -rf out dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .numba_cache
	find hwsim rtl models tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "hwsim needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "$(PYTHON) cannot make a virtual environment: it lacks ensurepip, which Debian and Ubuntu package apart."; \
	  echo "Install it (sudo apt install python3-venv), or make .venv yourself with pip in it (virtualenv .venv)."; \
	  exit 1; }
	$(PYTHON) -m venv .venv

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
