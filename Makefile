# Everything installs itself into .venv on first use; nothing outside this folder is touched but pip's cache.
PYTHON ?= python3
SCALE ?= laptop
EXPERIMENT ?= attention_influence/main
MACHINE ?= cpu
VENV := .venv
BIN := $(VENV)/bin
export AIRLAB_STORE ?= $(CURDIR)/.airlab
export AIRLAB_CACHE ?= $(AIRLAB_STORE)/cache

.PHONY: reproduce test test-faults setup check smoke plan tables verify report docs audit bench clean

# EXPERIMENT=controls, ablations, heads, masking_check, selector_size, evidence, air: what else is published
reproduce: setup  ## run the experiment and print its table
	$(BIN)/airlab run experiment=$(EXPERIMENT) scale=$(SCALE) machine=$(MACHINE)

test: setup  ## all tests, on two cores in 20 to 35 minutes
	$(BIN)/python -m pytest

test-faults: setup  ## everything that can go wrong, on purpose; writes docs/faults.md
	AIRLAB_FAULTS=full AIRLAB_FAULTS_LEDGER=$(AIRLAB_STORE)/faults.jsonl $(BIN)/python -m pytest tests/faults
	AIRLAB_FAULTS_LEDGER=$(AIRLAB_STORE)/faults.jsonl $(BIN)/python -m tests.faults.write_page

setup: $(VENV)/installed  ## a virtual environment with the tested versions

$(VENV)/installed: pyproject.toml constraints.txt requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
		|| { echo "airlab needs Python 3.11 to 3.13; run make with PYTHON=python3.11, say" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,eval,offline,slurm,datatrove,ray,track,dev]'
	touch $@

check: setup  ## formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

smoke: setup  ## every stage for real on a few documents, three minutes
	$(BIN)/airlab run experiment=$(EXPERIMENT) scale=smoke machine=$(MACHINE) results=$(AIRLAB_STORE)/results

plan: setup  ## what `make reproduce` would run
	$(BIN)/airlab plan experiment=$(EXPERIMENT) scale=$(SCALE) machine=$(MACHINE)

tables: setup  ## the table again from finished cells
	$(BIN)/airlab table experiment=$(EXPERIMENT) scale=$(SCALE) machine=$(MACHINE)

verify: setup  ## do the committed tables still follow from the configurations?
	$(BIN)/airlab verify

report: setup  ## docs/report.html, the page of all committed tables; and what they found
	$(BIN)/airlab report

docs: setup  ## docs/CONFIGURATION.md from the schemas, docs/COST.md from plans, the README's tables from the results
	$(BIN)/python docs/configuration.py
	$(BIN)/python docs/cost.py
	$(BIN)/python docs/readme.py

audit:  ## known vulnerabilities of the tested versions, as a database tells them
	@place=$$(mktemp -d) && trap 'rm -rf "$$place"' EXIT && $(PYTHON) -m venv "$$place" || exit 2; \
	"$$place/bin/python" -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1 2> "$$place/told" \
		|| { echo "No audit was made: pip-audit cannot be installed ($$(tail -n 1 "$$place/told"))." >&2; exit 2; }; \
	"$$place/bin/pip-audit" --strict --progress-spinner off --disable-pip --no-deps -r constraints.txt \
		-o "$$place/found" 2> "$$place/told"; code=$$?; \
	if [ $$code -ne 0 ] && [ ! -s "$$place/found" ]; then \
		echo "No audit was made: no database of vulnerabilities answers for every package" \
			"($$(tail -n 1 "$$place/told"))." >&2; exit 2; \
	fi; \
	tail -n 1 "$$place/told"; [ $$code -eq 0 ] || cat "$$place/found"; exit $$code

bench: setup  ## the scoring pass against ordinary transformers
	$(BIN)/python benchmarks/scoring.py

clean:  ## artifacts and the environment; committed results stay
	rm -rf $(VENV) .airlab outputs
