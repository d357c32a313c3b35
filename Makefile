# The vocabulary of the book. Everything runs in .venv, made on first use.
#
#   make book       environment, then the site; prints where the page is
#   make test       environment, then every check
#   make pdf        the book as one PDF; needs LaTeX, see the README
#   make lint       style of code and notebooks, stamped addresses
#   make execute    run notebooks into their stored outputs; all, or those
#                   in CHAPTERS="chapters/a/b.ipynb ..."
#   make replicate  run chapters, as above, under fresh seeds, SEEDS=20 of
#                   them or SEEDS=21:30; on a cluster by DASK=tcp://...
#   make full       run chapters, as above, at full scale; without a GPU, at
#                   a reduced one
#   make colab      time notebooks, as above, in Colab's versions
#   make assignments  turn exercises of chapters, as above, into student
#                   notebooks and an autograder
#   make bench      time the engine against the plain way and the best peer
#   make serve      the site on http://localhost:8000
#   make stamp      write address, branch and version wherever they stand
#   make lock       resolve requirements.txt anew (on a machine without a GPU)
#   make clean      remove what was built
#
# CHROMIUM=... is the browser that reads the site in the tests.
# TORCH=cpu takes PyTorch's CPU build where pip would choose a CUDA one, and
# PYTHON=... another interpreter than python3.11 to make the environment.

PYTHON ?= python3.11
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# One thread a process: two processes share two cores, and results repeat.
export OMP_NUM_THREADS ?= 1

ifeq ($(TORCH),cpu)
INDEX := --extra-index-url https://download.pytorch.org/whl/cpu
else ifneq ($(TORCH),)
$(error TORCH=$(TORCH); allowed: cpu, or nothing)
endif

# Its scripts name the folder that .venv was made in: moved, they fail; copied,
# they run the code of the other folder.
ifneq ($(wildcard .venv/pyvenv.cfg),)
ifeq ($(shell grep -F " $(CURDIR)/.venv" .venv/pyvenv.cfg),)
$(error .venv was made in another folder; remove it, then run make again)
endif
endif

# The scoreboard reads what the others store.
PAGES := $(shell find chapters -name '*.ipynb' -not -path '*/.*' \
	-not -name scoreboard.ipynb | sort) chapters/scoreboard.ipynb
SEEDS ?= 20

# Stored outputs are those of the quick scale on a CPU, under the book's seeds.
test execute assignments: export CI := true
QUICK := test execute replicate colab assignments
$(QUICK): export LEARNING_MECHANICS_SCALE := quick
$(QUICK): export LEARNING_MECHANICS_DEVICE := cpu
$(QUICK): export LEARNING_MECHANICS_SEED := 0

.PHONY: book test pdf browser lint execute replicate full colab assignments bench serve stamp lock clean

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(INDEX) -r requirements.txt
	$(BIN)/pip install --no-deps --no-build-isolation -e .
	touch $@

book: .venv/ready
	@# A failed build leaves pages in a cache that a second one would trust.
	jupyter-book build -W --keep-going . || \
		{ rm -rf _build/html _build/.doctrees; exit 1; }
	@echo "The book: file://$(CURDIR)/_build/html/index.html"

# Stops at what TeX refuses, instead of asking.
pdf: .venv/ready
	LATEXMKOPTS="-interaction=nonstopmode -halt-on-error" \
		jupyter-book build -W --keep-going --builder pdflatex .
	@echo "The PDF: _build/latex/learning-mechanics.pdf"

# Where there is no chromium: Debian's, or else playwright's own.
browser: .venv/ready
	@test -n "$(CHROMIUM)" || command -v chromium || { \
		test "$$(id -u)" = 0 && command -v apt-get && apt-get update && \
		apt-get install -y --no-install-recommends chromium; \
	} || playwright install chromium

lint: .venv/ready
	ruff check .
	ruff format --check .
	python tools/stamp.py --check

# Environments and the site are made side by side.
test:
	$(MAKE) -j2 lint book browser _build/colab/ready
	pytest -n 2 --dist loadscope --nbval --nbval-current-env \
		--nbval-sanitize-with tests/sanitize.cfg lib tests chapters

execute: .venv/ready
	@$(foreach page,$(CHAPTERS),$(if $(wildcard $(page)),,$(error \
		CHAPTERS has $(page), which does not exist)))
	jupyter nbconvert --execute --to notebook --inplace \
		--ExecutePreprocessor.record_timing=False $(or $(CHAPTERS),$(PAGES))

replicate: .venv/ready
	python tools/replicate.py --seeds $(SEEDS) $(addprefix --dask ,$(DASK)) \
		$(CHAPTERS)

full: .venv/ready
	python tools/full.py $(CHAPTERS)

# Colab's versions of what a notebook is shown through.
_build/colab/ready: tools/colab.txt
	$(PYTHON) -m venv --clear _build/colab
	_build/colab/bin/pip install $(INDEX) -r tools/colab.txt
	touch _build/colab/ready

colab: .venv/ready _build/colab/ready
	python tools/colab.py $(CHAPTERS)

assignments: .venv/ready
	python tools/assignments.py $(CHAPTERS)

# The peers want versions of their own, so they get an environment.
_build/peers/ready: tools/peers.txt
	$(PYTHON) -m venv --clear _build/peers
	_build/peers/bin/pip install $(INDEX) -c requirements.txt -r $<
	touch $@

bench: .venv/ready _build/peers/ready
	env -u OMP_NUM_THREADS CI=true python tools/bench.py

serve: book
	python -m http.server --directory _build/html 8000

stamp: .venv/ready
	python tools/stamp.py

lock:
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install $(INDEX) torch==2.13.0 -e '.[dev]'
	echo "# Written by make lock: the environment of the stored outputs." \
		> requirements.txt
	$(BIN)/pip freeze --all --exclude pip --exclude-editable \
		| sed 's/+cpu$$//' >> requirements.txt

clean:
	rm -rf _build
