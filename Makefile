# Two commands do all set-up on a fresh machine: `make book` and `make test`. Both make .venv first.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# nbgrader looks for alembic, and the notebooks for their kernel, on PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)

# For the tools behind: make book BOOKFLAGS="-W -n --keep-going" stops at warnings, as in CI;
# make test PYTESTFLAGS="-k moments" runs some of the tests.
BOOKFLAGS ?=
PYTESTFLAGS ?=
SETS := $(patsubst exercises/%/notebook.py,%,$(wildcard exercises/ps*/notebook.py))
ZIPS := $(SETS:%=_build/exercises/%.zip)
WHEEL := _build/wheel/.built
CODE := $(shell find bnlab -name '*.py' -o -name '*.mplstyle')

.PHONY: help book in-page wheel serve pdf epub test test-site test-oldest exercises verify grade-demo \
  bench bench-cpu bench-gpu bench-grading bench-website lint constraints clean
.DEFAULT_GOAL := help

help:  ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' Makefile

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version 2>&1), the course needs 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[book,grading,frameworks,fast,gpu,dev]'
	@touch $@

# Set to a backend without pictures, it would take every figure out of the book.
unexport MPLBACKEND

# Where the small runs of the experiments are kept; the pages take them up.
export BNLAB_CACHE ?= $(CURDIR)/_build/experiments

# With solutions the book goes to a place of its own, so that nobody publishes them by mistake.
SOLUTIONS ?=
ifneq ($(SOLUTIONS),)
SITE := _build/with_solutions/_build/html
SOLVED := --toc _build/toc_with_solutions.yml --path-output _build/with_solutions
else
SITE := _build/html
endif

# Without network a book is built all the same, without Python in its pages; in CI that is an error.
book: $(INSTALLED) $(ZIPS) $(WHEEL)  ## Build the website and the exercises to hand out (SOLUTIONS=1: a book for instructors)
	$(MAKE) --no-print-directory in-page $(if $(CI),,IF_POSSIBLE=--if-possible)
	python -c "from bnlab.backends import numba; numba.compile_all()"  # else a page would say that it compiles
	python -m bnlab.experiments run --all --quiet
	$(if $(SOLUTIONS),bnlab exercises solutions)
	jupyter-book build . $(SOLVED) $(BOOKFLAGS)
	@echo "The website: $(SITE)/index.html     The exercises: _build/exercises/*.zip"

in-page: $(INSTALLED) _build/in_page/python/contents.json  ## Fetch and pack the Python that runs in the pages

_build/in_page/python/contents.json: scripts/fetch_in_page.py $(CODE) $(SETS:%=exercises/%/checks.py)
	python scripts/fetch_in_page.py $(IF_POSSIBLE)

PORT ?= 8000
serve: $(INSTALLED)  ## Serve the built website on this machine (PORT=8000)
	@python scripts/serve.py --port $(PORT)

pdf: $(INSTALLED)  ## Print the built website as one PDF, in headless Chromium
	python scripts/make_pdf.py _build/pdf/batch_normalization.pdf

epub: $(INSTALLED)  ## Pack the built website as an EPUB
	python scripts/make_epub.py _build/epub/batch_normalization.epub

exercises: $(ZIPS)  ## Build nbgrader's source, the student versions, and their zips

_build/exercises/%.zip: exercises/%/notebook.py exercises/%/checks.py $(CODE) $(INSTALLED)
	bnlab exercises release $*

wheel: $(WHEEL)  ## Build the package bnlab, which the website offers for `pip install`

$(WHEEL): $(CODE) README.md LICENSE $(INSTALLED)
	rm -rf $(@D)
	python -m hatchling build -t wheel -d $(@D)
	@touch $@

verify: $(INSTALLED)  ## Prove the exercises' checks on right and wrong solutions
	bnlab exercises verify

grade-demo: $(INSTALLED)  ## Grade a made-up class with nbgrader and show the scores
	python -m bnlab.grading.demo

bench: $(INSTALLED)  ## Time batch normalization on this machine: torch's, and bnlab's backends
	python -m bnlab.benchmark

bench-cpu: $(INSTALLED)  ## Measure it for the chapter "What BN costs", on a quiet machine (15 minutes)
	python -m bnlab.benchmark --quiet --turns 60 --output book/results/bn_speed_cpu.json
	python -m bnlab.benchmark --whole-steps --output book/results/bn_steps_cpu.json

bench-gpu: $(INSTALLED)  ## The same on a GPU, after its kernels' tests; needs a torch with CUDA
	pytest -n 0 tests/bnlab/test_backend_triton.py
	python -m bnlab.benchmark --device cuda --dtype float32,bfloat16 --quiet --output book/results/bn_speed_gpu.json
	python -m bnlab.benchmark --device cuda --batch-size 256 --dtype bfloat16 --quiet --output book/results/bn_speed_gpu_256.json
	python -m bnlab.benchmark --device cuda --whole-steps --output book/results/bn_steps_gpu.json

bench-grading: $(INSTALLED)  ## Measure trusted grading beside nbgrader's own, and for a large class (an hour)
	python benchmarks/grading.py --output book/results/grading.json
	python benchmarks/grading_scale.py --output book/results/grading_scale.json

bench-website: $(INSTALLED)  ## Measure the built site: weight, largest paint, axe, Lighthouse (15 minutes, needs npm)
	python benchmarks/website.py --output book/results/website.json

test: $(INSTALLED)  ## Run the whole test suite (the site's tests need `make book` first)
	pytest -n auto $(PYTESTFLAGS)

test-site: $(INSTALLED)  ## Run the tests of the built website in headless Chromium
	pytest -n auto --dist loadfile tests/book $(PYTESTFLAGS)

test-oldest: _build/oldest/.installed  ## Run the NumPy core's tests with NumPy 1.25 (needs Python 3.11)
	_build/oldest/bin/python -m pytest -q -p no:cacheprovider tests/bnlab/test_reference.py tests/bnlab/test_reference_relatives.py tests/bnlab/test_moments.py tests/checks/test_checks.py

_build/oldest/.installed: constraints.txt
	$(PYTHON) -m venv _build/oldest
	sed '/^numpy==/d' constraints.txt > _build/oldest/constraints.txt
	_build/oldest/bin/pip install -q -c _build/oldest/constraints.txt numpy==1.25.2 torch pytest pytest-timeout hypothesis
	_build/oldest/bin/pip install -q --no-deps .
	@touch $@

lint: $(INSTALLED)  ## Check style and formatting
	ruff check . && ruff format --check .

constraints: $(INSTALLED)  ## Renew constraints.txt from the newest versions that pyproject.toml allows
	$(PYTHON) -m venv _build/fresh && _build/fresh/bin/pip install -q '.[book,grading,frameworks,fast,gpu,dev]'
	{ sed -n '/^#/p' constraints.txt; _build/fresh/bin/pip freeze | grep -v '^bnlab' | sed 's/+cpu$$//'; } > _build/constraints.txt
	mv _build/constraints.txt constraints.txt && rm -rf _build/fresh

clean:  ## Remove everything that was made, the environment apart; submissions and gradebook stay
	rm -rf _build dist exercises/source exercises/release
