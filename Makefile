# Each target builds what it needs; nothing else has to be set up first.
PYTHON ?= python3
TEXTURES ?= fabric
DATA ?=
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo test lint types test-runtime test-3.8 test-c test-disk test-tensorrt test-rtx rtx-matrix \
        test-providers matrix docs dist clean gpu-test c soak

help:  ## these lines
	@grep -hE '^[a-z0-9.-]+:.*  ## ' $(MAKEFILE_LIST) | sed 's/:.*  ## /\t/' | expand -t 16

demo: .venv/demo  ## photos -> model -> benchmark -> verdicts; DATA=FOLDER for your own, TEXTURES=all
	.venv/bin/python -m ssn_bench.demo --textures "$(TEXTURES)" $(if $(DATA),--data "$(DATA)")

# --- Tests ---------------------------------------------------------------------------------------

# Heavy kinds, each a target with what it needs: C, killed writers, TensorRT's releases, NVIDIA's compiler.
HEAVY = tests/ssn_edge/c tests/ssn_edge/model/test_kill.py tests/end_to_end/test_tensorrt.py tests/tensorrt_api \
        tests/rtx

test: lint types test-runtime test-3.8  ## what every change must pass; a few minutes
	.venv/bin/python -m pytest $(HEAVY:%=--ignore %)

lint: .venv/dev  ## ruff, and that the folders without torch stay within Python 3.8
	.venv/bin/ruff check .
	.venv/bin/vermin --quiet --no-tips --violations --target=3.8- $(PY38)

# docs/architecture.md: all but the folders that need torch, the demo and its surfaces.
PY38 = $(shell find ssn_edge train export benchmarks -name '*.py' | \
         grep -vE '/(network|steps|training|graph|methods|pareto|demo|promises)/')

types: .venv/dev  ## mypy
	.venv/bin/mypy --strict ssn_edge
	.venv/bin/mypy train/ssn_train export/ssn_export benchmarks/ssn_bench

RUNTIME = tests/ssn_edge tests/ssn_bench $(addprefix tests/ssn_export/,bundles targets tensorrt work) tests/test_rooms.py \
          $(HEAVY:%=--ignore %)

test-runtime: .venv-lean/ready  ## the tests of what runs without torch, in an environment without it
	.venv-lean/bin/python -m pytest $(RUNTIME)

# A JetPack 5 device's Python; in PATH, or where pyenv keeps it.
PYTHON38 ?= $(firstword $(shell python3.8 -c 'import sys; print(sys.executable)' 2>/dev/null) \
              $(wildcard $(HOME)/.pyenv/versions/3.8.*/bin/python3.8))

test-3.8: $(if $(PYTHON38),.venv-3.8/ready)  ## the runtime's tests on Python 3.8 with the oldest numpy and OpenCV
	$(if $(PYTHON38),.venv-3.8/bin/python -m pytest tests/ssn_edge $(HEAVY:%=--ignore %),\
	    @echo "skipped: no python3.8 here; the runtime's tests on it were not run")

test-c: .venv-c/ready  ## the C library: compiled, misused, under AddressSanitizer
	.venv-c/bin/python -m pytest tests/ssn_edge/c

test-disk: .venv-lean/ready  ## writers of bundles killed at every system call; needs strace
	.venv-lean/bin/python -m pytest -rs tests/ssn_edge/model/test_kill.py

test-tensorrt: .venv/dev  ## NVIDIA's bindings of several releases, over stand-ins where SSN_FAKEGPU names them
	.venv/bin/python -m pytest -rs tests/end_to_end/test_tensorrt.py tests/tensorrt_api

test-rtx: .venv-rtx/newest/ready  ## our graphs through NVIDIA's compiler for RTX cards, without a GPU
	PYTHONPATH=.venv-rtx/newest .venv/bin/python -m pytest -rs tests/rtx

RTX_RELEASES = 1.4 1.5 1.6 1.7

rtx-matrix: $(RTX_RELEASES:%=.venv-rtx/%/ready)  ## every graph, release and card generation, resumable: hours
	.venv/bin/python tests/rtx/matrix.py --out .venv-rtx/matrix $(RTX_RELEASES:%=.venv-rtx/%)

test-providers: .venv/dev .venv-providers/ready .venv-plugins/ready  ## OpenVINO's provider of ONNX Runtime, and plugins
	.venv-providers/bin/python -m pytest -rs $(PROVIDERS) tests/ssn_edge/test_memory.py
	.venv-plugins/bin/python -m pytest -rs $(PROVIDERS)
	SSN_PROVIDERS=.venv-providers/bin/python .venv/bin/python -m pytest -rs tests/end_to_end/test_providers.py

PROVIDERS = tests/ssn_edge/backends tests/ssn_bench/measure/test_contenders.py

matrix: .venv/dev  ## the runtime's tests on Python 3.10, 3.12 and 3.13, by nox; versions that are absent are named
	.venv/bin/nox --session runtime --no-error-on-missing-interpreters

# The Python that tensorrt and pycuda are installed for, with ssn-edge and pytest: PYTHON=...
gpu-test:  ## on a machine with an NVIDIA GPU; writes gpu-report.json. EXPORTED=model.ssn for your model
	$(if $(EXPORTED),SSN_EXPORTED="$(EXPORTED)") $(PYTHON) -m pytest -rs tests/gpu

# --- Environments --------------------------------------------------------------------------------

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
	.venv-lean/bin/python -m pip install --quiet --editable ".[bench,openvino,test]" "numpy<2" "opencv-python<5"
	touch $@

# ONNX Runtime 1.12 states numpy 1.21 and runs with 1.20, which is the oldest that ssn-edge allows.
.venv-3.8/ready: setup.cfg
	$(PYTHON38) -m venv .venv-3.8
	.venv-3.8/bin/python -m pip install --quiet "numpy==1.20.*" "opencv-python==4.5.1.*" "click==8.0.*" \
	    "openvino==2023.2.*" "onnx==1.14.*" pytest hypothesis paho-mqtt prometheus-client
	.venv-3.8/bin/python -m pip install --quiet --no-deps "onnxruntime==1.12.*" flatbuffers coloredlogs \
	    humanfriendly sympy mpmath
	touch $@

# Beside .venv and not in it: there it would judge every export of every test.
.venv-rtx/newest/ready: .venv/dev
	.venv/bin/python -m pip install --quiet --upgrade --target $(@D) tensorrt-rtx-cu12-bindings tensorrt-rtx-cu12-libs
	touch $@

.venv-rtx/%/ready: .venv/dev
	.venv/bin/python -m pip install --quiet --upgrade --target $(@D) \
	    "tensorrt-rtx-cu12-bindings==$*.*" "tensorrt-rtx-cu12-libs==$*.*"
	touch $@

# Packages with ONNX Runtime inside overwrite each other's files: an environment each. Where there is no wheel of
# one for this Python its tests say so; everything else that pip says is an error.
.venv-providers/ready: setup.cfg
	$(PYTHON) -m venv .venv-providers
	.venv-providers/bin/python -m pip install --quiet --editable ".[test]"
	$(call optional,.venv-providers,onnxruntime-openvino)
	touch $@

.venv-plugins/ready: setup.cfg
	$(PYTHON) -m venv .venv-plugins
	.venv-plugins/bin/python -m pip install --quiet --editable ".[onnxruntime,test]"
	$(call optional,.venv-plugins,onnxruntime-ggml)
	$(call optional,.venv-plugins,onnxruntime-ep-openvino)
	touch $@

optional = $(1)/bin/python -m pip install --quiet $(2) 2>$(1)/why || { cat $(1)/why; \
    grep -q "No matching distribution found" $(1)/why; }

.venv-c/ready: setup.cfg
	$(PYTHON) -m venv .venv-c
	.venv-c/bin/python -m pip install --quiet --editable ".[onnxruntime,test]"
	touch $@

.venv-docs/ready: docs/requirements.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --requirement docs/requirements.txt
	touch $@

# --- Products ------------------------------------------------------------------------------------

docs: .venv-docs/ready  ## site/: the documentation as pages with search
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict  # not --quiet, which counts no warnings

dist: .venv/dev  ## dist/: sdist and wheel
	.venv/bin/python -m build --no-isolation --outdir dist .

# Embeds the Python that builds it: C_PYTHON=... for one that has ssn-edge and cffi already.
C_PYTHON ?= .venv-c/bin/python
c: $(if $(filter .venv-c/%,$(C_PYTHON)),.venv-c/ready)  ## build/c: libssn_edge.so.2, ssn_edge.h, ssn_edge.pc, c_camera_loop
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
	rm -rf .venv .venv-* .nox demo pareto promises soak build dist site *.egg-info
