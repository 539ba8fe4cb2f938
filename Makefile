# Everything runs in .venv, which is made on the first call: make PYTHON=/path/to/python chooses another interpreter.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed-for
# What draws without a screen on Debian; tests of pictures are skipped where it cannot be had.
OPENGL := libegl1 libgl1-mesa-dri
# A second opinion in the tests. It comes apart from the others: its dependency has the name of 3D Slicer's own package.
SHAP := shap==0.51.0

.DEFAULT_GOAL := help
.PHONY: help demo test benchmark lint format install system clean

help: ## list these targets
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  %-10s %s\n' "$$name" "$$text"; done

demo: $(STAMP) ## explain a generated CT with the bundled model; results in demo/
	$(VENV)/bin/agg2exp demo --out demo --overwrite

# Two processes share the tests; one that is done takes over some of the other's. Bytecode is kept, or every process would compile
# the whole tree anew.
test: export PYTHONDONTWRITEBYTECODE =
test: lint system ## lint, types, tests and the examples in docstrings
	$(RUN) -m mypy
	$(RUN) -m pytest --numprocesses 2 --dist worksteal

benchmark: $(STAMP) ## time and memory of one explanation, beside the plain way of computing it
	$(RUN) -m Agg2ExpLib.benchmark

lint: $(STAMP) ## check style and format
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

format: $(STAMP) ## put the code in format and mend what can be mended
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

install: $(STAMP) ## make or update .venv

system: $(STAMP) ## check the system libraries that the tests need; as root, install them
	@$(RUN) .ci/system-packages

clean: ## remove .venv, the demo's results and all caches
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find Agg2Exp Agg2ExpLib Testing -type d -name __pycache__ -prune -exec rm -rf {} +

# An environment knows the folder that it was made in: one that came along with a copied or moved checkout is made anew.
ifneq "$(shell cat $(STAMP) 2>/dev/null)" "$(CURDIR)"
.PHONY: $(STAMP)
endif

$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "make: '$(PYTHON)' is not found; install Python 3.11 to 3.13" \
		"(Debian: apt-get install python3 python3-venv) or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { echo \
		"make: '$(PYTHON)' is $$("$(PYTHON)" --version 2>&1); Python 3.11 to 3.13 is needed:" \
		"make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "make: '$(PYTHON)' cannot make virtual" \
		"environments; install its venv package (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@if ! { [ "$$(cat $(STAMP) 2>/dev/null)" = "$(CURDIR)" ] && $(RUN) -m pip --version >/dev/null 2>&1; }; then \
		echo "making $(VENV)"; rm -rf $(VENV); "$(PYTHON)" -m venv $(VENV); fi
	@echo "installing agg2exp and its development tools into $(VENV); the first time this takes some minutes"
	@$(RUN) -m pip --disable-pip-version-check install --progress-bar off --editable '.[dev]' \
		--constraint constraints.txt >$(VENV)/pip.log 2>&1 || { tail -n 20 $(VENV)/pip.log >&2; \
		echo "make: pip could not install the packages; its last words are above, all of them in $(VENV)/pip.log;" \
		"mend that and run make again" >&2; exit 1; }
	@why=$$($(RUN) -m Agg2ExpLib.scene.opengl); if [ -n "$$why" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
		then echo "installing $(OPENGL), which draws without a screen"; { apt-get -qq update; \
		DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $(OPENGL); } >$(VENV)/apt.log 2>&1 || true; fi
	@why=$$($(RUN) -m Agg2ExpLib.scene.opengl); if [ -n "$$why" ]; then echo "make: without pictures: $$why"; fi
	@$(RUN) -m Agg2ExpLib.methods.games.shap_import $(SHAP) >>$(VENV)/pip.log 2>&1 || echo "make: shap could not be" \
		"installed (see $(VENV)/pip.log); the tests that compare with it are skipped" >&2
	@printf '%s\n' "$(CURDIR)" > $(STAMP)
