# One command each: `make demo`, `make test`. Everything is installed into .venv and .demo-venv here, nothing elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_ENV := PIP_DISABLE_PIP_VERSION_CHECK=1
export OMP_NUM_THREADS ?= 2
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo test test-all fuzz bench lint format docs setup browser clean

demo: .demo-venv/ready
	.demo-venv/bin/attar compress examples/models/lenet5.onnx --data examples/fashion-mnist --metric accuracy \
	  --max-drop 0.5 -o out/demo --force || test $$? -eq 3
	.demo-venv/bin/attar inspect out/demo/lenet5.attar

.demo-venv/ready: pyproject.toml CMakeLists.txt $(wildcard native/*)
	$(PYTHON) -m venv .demo-venv
	$(PIP_ENV) .demo-venv/bin/pip install -q -c constraints.txt '.[onnx,report]'
	touch $@

setup: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_ENV) $(BIN)/pip install -q -U 'pip>=25.1'
	$(PIP_ENV) $(BIN)/pip install -q -c constraints.txt 'scikit-build-core>=0.10' 'nanobind>=2.2' cmake ninja
	$(PIP_ENV) $(BIN)/pip install -q -c constraints.txt --no-build-isolation \
	  -e '.[onnx,torch,keras,tensorflow,jax,transformers,tflite,torchao,images,data,report,yaml,ray,mlflow,tensorboard,wandb,tune]' --group dev --group bench
	$(PIP_ENV) $(BIN)/pip install -q --no-deps nncodec==2.1.3 zipnn==0.5.4 torch-pruning==1.6.1 \
	  nncf==3.4.0 ai-edge-quantizer==0.10.0 immutabledict==4.3.1 psutil==7.2.2 pydot==4.0.1 pyparsing==3.3.3 tabulate==0.10.0  # rivals whose stated needs nobody needs here
	touch $@

browser:
	@which chromium chromium-browser google-chrome >/dev/null 2>&1 || test -n "$$ATTAR_CHROMIUM" || \
	  { apt-get update -qq && apt-get install -y -qq chromium; } || \
	  { echo "install chromium, or set ATTAR_CHROMIUM to a browser"; exit 1; }

test: setup browser lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist worksteal -m "not slow"

test-all: setup browser lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 --dist worksteal
	$(MAKE) fuzz SECONDS=60

# Fuzzers over the readers, each for so many seconds: C++ with sanitizers (clang++ is installed where it is missing), Python.
SECONDS ?= 600
fuzz: setup
	@which clang++ >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq clang libclang-rt-14-dev; } || \
	  { echo "install clang with its sanitizers"; exit 1; }
	$(BIN)/python tests/fuzz/run.py native --seconds $(SECONDS)
	$(BIN)/python tests/fuzz/run.py archive --seconds $(SECONDS)
	$(BIN)/python tests/fuzz/run.py tflite --seconds $(SECONDS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict -p attar.methods -p attar.coding -p attar.archive -p attar.plan -p attar.search -p attar.evaluate -p attar.recover -p attar.run -p attar.structure -p attar.sets -p attar.hashing -p attar.selection -p attar.exports -p attar.augment -p attar.latent -p attar.latency -p attar.streaming -p attar.estimating -m attar.dataless -m attar.tuning -m attar.calibration -m attar.parameters -m attar.forewarning -m attar.types
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python benchmarks/models.py
	$(BIN)/python benchmarks/coder.py
	$(BIN)/python benchmarks/lossless.py
	$(BIN)/python benchmarks/image_sets.py
	$(BIN)/python benchmarks/data_sets.py
	$(BIN)/python benchmarks/lossy_images.py
	$(BIN)/python benchmarks/layer.py
	$(BIN)/python benchmarks/methods.py
	$(BIN)/python benchmarks/structure.py
	$(BIN)/python benchmarks/recovery.py
	$(BIN)/python benchmarks/recovery_settings.py
	$(BIN)/python benchmarks/structure_recovery.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/transformer_scales.py
	$(BIN)/python benchmarks/augmentation.py
	$(BIN)/python benchmarks/selection.py
	$(BIN)/python benchmarks/calibrated_on.py
	$(BIN)/python benchmarks/int8.py
	$(BIN)/python benchmarks/int4.py
	$(BIN)/python benchmarks/false_certificates.py
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/tflite.py
	$(BIN)/python benchmarks/torch_int8.py
	$(BIN)/python benchmarks/gguf_types.py
	$(BIN)/python benchmarks/packed.py
	$(BIN)/python benchmarks/language.py
	$(BIN)/python benchmarks/perplexity.py
	$(BIN)/python benchmarks/speech.py
	$(BIN)/python benchmarks/streaming.py
	$(BIN)/python benchmarks/block_recovery.py
	$(BIN)/python benchmarks/estimates.py
	$(BIN)/python benchmarks/verbs.py
	$(BIN)/python benchmarks/search.py
	$(BIN)/python benchmarks/picking.py
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/tuning.py
	$(BIN)/python benchmarks/large_folder.py
	$(BIN)/python benchmarks/efficientnet.py
	$(BIN)/python benchmarks/efficientnet_channels.py

docs: setup
	$(PIP_ENV) $(BIN)/pip install -q -c constraints.txt --group docs
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) .demo-venv build out site
