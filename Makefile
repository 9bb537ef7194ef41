# Everything a user or a founder runs. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help demo stack test shipped campaigns referee format lint types fuzz faults damage bench docs screenshot clean \
	browser java

UV := .uv/bin/uv
RUN := $(UV) run --frozen --quiet
# What `make demo` passes on: make demo ARGS="--duration 60s --headless --json"
ARGS ?=

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "make %-12s %s\n", $$1, $$2}'

# make demo STACK=kafka runs it over a real Kafka, which ends with it.
STACK ?=
DEMO := $(if $(STACK),python -m infra.stack) tidegate demo $(ARGS)

# At a terminal the demo is a job of its own: Ctrl-C then reaches it alone, and make ends as well as it does.
demo: .venv/ready $(if $(STACK),build/stack/jars/ready) ## run the whole company on this machine, with live simulated sources; Ctrl-C ends it
	@if [ -t 0 ] && command -v bash >/dev/null; then bash -mc '$(RUN) $(DEMO) & fg >/dev/null'; \
		else $(RUN) $(DEMO); fi

stack: .venv/ready build/stack/jars/ready ## run a real Kafka on loopback, data in build/stack; Ctrl-C ends it
	@$(RUN) python -m infra.stack

# These go first, alone: they compile the kernel, which others then find compiled. Two at once would compile it twice.
SHIPPED := tests/hosts/test_detectors.py

# More processes than cores, since many tests wait: for services, a browser, Kafka. What is told to happen within a time
# has the machine to itself.
test: shipped browser build/stack/jars/ready ## run all tests
	$(RUN) pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder -m "not timed" \
		--ignore=$(SHIPPED) --ignore=tests/campaigns
	$(RUN) pytest -m timed tests/browser

shipped: .venv/ready
	$(RUN) pytest $(SHIPPED)

campaigns: .venv/ready build/stack/jars/ready ## tests that take longer than CI can wait: Kafka's log against its model
	$(RUN) pytest tests/campaigns

referee: .venv/ready build/flink/ready java ## let Flink SQL judge the sequences of events
	$(RUN) pytest tests/referee

format: .venv/ready ## bring the code into its one form
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

lint: .venv/ready ## check style and the walls between the rooms
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) lint-imports

types: .venv/ready ## check types, strictly
	$(RUN) pyright

fuzz: .venv/ready ## 20,000 SQL texts, sound and spoiled: none crashes the compiler, each refusal says where
	$(RUN) pytest tests/kernel/test_grammar.py --hypothesis-profile=fuzz

faults: .venv/ready build/stack/jars/ready ## kill -9 the engine over a real Kafka 500 times
	TIDEGATE_KILLS=500 $(RUN) pytest tests/faults/test_kafka.py

damage: .venv/ready ## 1,000 damaged files of each format: each is taken whole or refused, and nothing crashes
	$(RUN) pytest tests/intake/test_corruption.py --corruptions=1000

bench: .venv/ready ## measure beside nine peers in one run, for an hour or more; with QUICK=1 a small form of it, for three minutes
	$(RUN) python -m benchmarks.run

docs: .venv/ready ## write the reference pages from the code
	$(RUN) python docs/reference/generate.py

screenshot: .venv/ready browser ## run the demo and take the README's pictures of the desk
	$(RUN) python -m tests.browser.screenshot

clean: ## remove what was built, keep data/
	rm -rf .venv .uv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# uv comes from PyPI into a folder of its own, so that nothing has to be installed by hand.
$(UV):
	@python3 -m venv .uv
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==0.13.9

.venv/ready: uv.lock pyproject.toml | $(UV)
	@$(UV) sync --frozen --quiet
	@touch $@

# Peers of the benchmark, and Flink as referee, want libraries of their own: an environment each. Flink's and Pathway's
# take about a gigabyte.
build/%/ready: benchmarks/environments/%.txt | $(UV)
	@$(UV) venv --quiet --clear --python 3.11 build/$*
	@$(UV) pip install --quiet --python build/$*/bin/python --requirement $<
	@touch $@

build/flink/ready: tests/referee/requirements.txt

# The real servers of tests and demo, as infra/stack/pom.xml pins them.
build/stack/jars/ready: infra/stack/pom.xml | java
	@mvn -q -B -f infra/stack/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/build/stack/jars
	@touch $@

# The browser tests drive Debian's Chromium; Playwright's own download is not used.
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
		&& apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; } \
		|| echo "no chromium: the browser tests say so and are skipped; install it with: apt-get install chromium"

# Flink and Kafka run on Java; Maven fetches them.
java:
	@{ command -v java && command -v mvn; } >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
		&& DEBIAN_FRONTEND=noninteractive apt-get install -y -qq openjdk-17-jre-headless maven >/dev/null; } \
		|| { echo "no java or mvn: Flink and Kafka need them; install: apt-get install openjdk-17-jre-headless maven"; exit 1; }
