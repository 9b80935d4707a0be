# Each target builds what it needs; nothing else has to be set up first.
PYTHON ?= python3
TEXTURES ?= fabric
DATA ?=
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test lint clean gpu-test c soak

demo: .venv/demo  ## photos -> model -> benchmark -> verdicts; DATA=FOLDER for your own, TEXTURES=all
	.venv/bin/python -m ssn_bench.demo --textures "$(TEXTURES)" $(if $(DATA),--data "$(DATA)")

test: lint .venv-lean/ready  ## everything that CI runs
	.venv/bin/vermin --quiet --no-tips --violations --target=3.8- $(PY38)
	.venv/bin/python -m pytest
	.venv-lean/bin/python -m pytest tests/ssn_edge tests/ssn_bench tests/ssn_export/bundles --ignore tests/ssn_export/bundles/test_kill.py

# The Python that tensorrt and pycuda are installed for, with ssn-edge and pytest: PYTHON=...
gpu-test:  ## on a machine with an NVIDIA GPU; writes gpu-report.json. EXPORTED=model.ssn for your model
	$(if $(EXPORTED),SSN_EXPORTED="$(EXPORTED)") $(PYTHON) -m pytest -rs tests/gpu

# ruff reads no setup.cfg. The rules left out want spellings newer than Python 3.8.
RUFF = .venv/bin/ruff check --line-length 110 --target-version py38 \
       --select E,F,I,UP,B,NPY --ignore UP006,UP007,UP035,UP045,B905 \
       --config 'src = [".", "train", "export", "benchmarks"]' .

# What runs on a Jetson with Python 3.8 (docs/architecture.md).
PY38 = ssn_edge $(filter-out %/demo.py %/eager.py %/peers.py %/plans.py %/subjects.py, \
         $(wildcard benchmarks/ssn_bench/*.py)) export/ssn_bench/measure/macs.py export/ssn_export/__init__.py \
       export/ssn_export/cli.py export/ssn_export/gates/lint.py export/ssn_export/tensorrt/engine.py export/ssn_export/tensorrt/builder.py \
       export/ssn_export/tensorrt/engine_layers.py export/ssn_export/gates/parity.py export/ssn_export/serving/triton.py \
       export/ssn_export/bundles/bundle_writer.py export/ssn_export/bundles/lock.py export/ssn_export/bundles/pack.py \
       export/ssn_export/bundles/info.py \
       train/ssn_train/__init__.py train/ssn_train/data/datasets.py train/ssn_train/report/metrics.py \
       train/ssn_train/report/results.py train/ssn_train/data/published_layouts.py train/ssn_train/data/split_files.py train/ssn_train/report/tables.py

lint: .venv/dev
	$(RUFF)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python setup.cfg
	@echo "installing ssn-edge with torch: a few minutes, several GB, once"
	.venv/bin/python -m pip install --quiet --editable ".[demo]"
	touch $@

.venv/dev: .venv/demo setup.cfg
	.venv/bin/python -m pip install --quiet --editable ".[all,dev]"
	touch $@

# The oldest numpy that this Python has, no torch: the runtime as a device has it.
.venv-lean/ready: setup.cfg
	$(PYTHON) -m venv .venv-lean
	.venv-lean/bin/python -m pip install --quiet --editable ".[bench,openvino]" "numpy<2" \
	    "opencv-python<5" onnx pytest hypothesis cffi setuptools paho-mqtt prometheus-client
	touch $@

# Embeds the Python that builds it: C_PYTHON=... for one that has ssn-edge and cffi already.
C_PYTHON ?= .venv-lean/bin/python
c: $(if $(filter .venv-lean/%,$(C_PYTHON)),.venv-lean/ready)  ## build/c: libssn_edge.so.2, ssn_edge.h, ssn_edge.pc, c_camera_loop
	$(C_PYTHON) -m ssn_edge.c.build build/c
	$(CC) -O2 -Wall -o build/c/c_camera_loop examples/c_camera_loop.c \
	    $$(PKG_CONFIG_PATH=build/c pkg-config --cflags --libs ssn_edge)

MINUTES ?= 10
MODEL ?= soak/ssn-lite0-b1.onnx
soak: .venv/demo $(MODEL)  ## a line with faults: MINUTES=10, MODEL=model.ssn (default: made, random weights)
	.venv/bin/python -m ssn_bench.soak $(MODEL) --minutes $(MINUTES) --out soak

soak/ssn-lite0-b1.onnx: | .venv/demo
	.venv/bin/ssn-bench ssn-lite0 --keep soak --budget 1 --out soak/bench.json

clean:  ## remove environments, demo results and build leftovers
	rm -rf .venv .venv-lean demo soak build dist *.egg-info
