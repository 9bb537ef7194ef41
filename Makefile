# Everything a user or a founder runs. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help demo stack test shipped flink campaigns referee format lint types fuzz faults damage bench docs screenshot clean \
	browser java

UV := .uv/bin/uv
RUN := $(UV) run --frozen --quiet
# What `make demo` passes on: make demo ARGS="--duration 60s --headless --json"
ARGS ?=

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "make %-12s %s\n", $$1, $$2}'

# make demo STACK=kafka runs it over a real Kafka, which ends with it; make stack STACK=flink starts a Flink beside Kafka.
STACK ?=
DEMO := $(if $(STACK),python -m infra.stack kafka) tidegate demo $(ARGS)
SERVERS = build/stack/jars/ready $(if $(filter flink,$(STACK)),build/flink/ready)

# At a terminal the demo is a job of its own: Ctrl-C then reaches it alone, and make ends as well as it does.
demo: .venv/ready $(if $(STACK),build/stack/jars/ready) ## run the whole company on this machine, with live simulated sources; Ctrl-C ends it
	@if [ -t 0 ] && command -v bash >/dev/null; then bash -mc '$(RUN) $(DEMO) & fg >/dev/null'; \
		else $(RUN) $(DEMO); fi

stack: .venv/ready $(SERVERS) ## run a real Kafka on loopback, with STACK=flink a Flink too, data in build/stack; Ctrl-C ends it
	@$(RUN) python -m infra.stack $(or $(STACK),kafka)

# These go first, alone: they compile the kernel, which others then find compiled. Two at once would compile it twice.
SHIPPED := tests/hosts/test_detectors.py

# More processes than cores, since many tests wait: for services, a browser, Kafka. What is told to happen within a time
# has the machine to itself.
test: shipped browser build/stack/jars/ready ## run all tests
	$(RUN) pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder -m "not timed" \
		--ignore=$(SHIPPED) --ignore=tests/campaigns --ignore=tests/faults/test_kafka.py
	$(RUN) pytest -m timed tests/browser tests/e2e

shipped: .venv/ready
	$(RUN) pytest $(SHIPPED)

campaigns: shipped build/flink/ready build/stack/jars/ready ## tests that take longer than CI can wait: Kafka's log against its model, all hosts over 200,000 rows
	$(RUN) pytest tests/campaigns

flink: shipped build/flink/ready build/stack/jars/ready ## test the engine on a real Flink
	$(RUN) pytest tests/flink

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

fuzz: .venv/ready ## 20,000 SQL texts, and requests of all kinds to all routes: none crashes anything, each refusal says why
	$(RUN) pytest tests/kernel/test_grammar.py tests/intake/test_described.py --hypothesis-profile=fuzz

faults: .venv/ready build/stack/jars/ready ## kill the engine over a real Kafka 500 times, its broker, and leave it to be fenced
	TIDEGATE_KILLS=500 $(RUN) pytest tests/faults/test_kafka.py

damage: .venv/ready ## 1,000 damaged files of each format: each is taken whole or refused, and nothing crashes
	$(RUN) pytest tests/intake/test_corruption.py --corruptions=1000

# make bench CASE="hot key" measures what has that in its name, and leaves docs/benchmarks.md as it is.
CASE ?=

bench: .venv/ready ## measure beside nine peers in one run, for half an hour; with QUICK=1 a small form of it, for three minutes
	$(RUN) python -m benchmarks.run $(if $(CASE),"$(CASE)")

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

# The Flink host's job runs in Flink's environment, and finds Tidegate and Kafka's connector there. Beam, for whose sake
# PyFlink has an older pyarrow, makes no use of it here.
CONNECTOR := flink-connector-base flink-connector-kafka kafka-clients lz4-java snappy-java zstd-jni
build/flink/ready: benchmarks/environments/flink.txt tests/referee/requirements.txt build/stack/jars/ready | $(UV)
	@$(UV) venv --quiet --clear --python 3.11 build/flink
	@$(UV) pip install --quiet --python build/flink/bin/python --requirement $<
	@$(UV) pip install --quiet --python build/flink/bin/python --no-deps --editable . pyarrow==20.0.0
	@cp $(CONNECTOR:%=build/stack/jars/%-[0-9]*.jar) build/flink/lib/python3.11/site-packages/pyflink/lib/
	@touch $@

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
