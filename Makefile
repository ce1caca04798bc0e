# Millrace. `make help` lists the targets; README.md tells what to type first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
GROUPS := airflow spark ingest embedded tools test bench standins
# What a user's targets need; the rest is added by the first target that tests, checks or measures.
RUN_GROUPS := airflow spark ingest embedded tools

# The main job's settings: make run FROM=2013-02-01 DAYS=28 PACE=3600 RESUME=1
FROM ?= 2013-01-01
DAYS ?= 31
PACE ?= 0
RESUME ?=
# A cluster: make install ENVIRONMENT=staging CONTEXT=my-cluster; DRY_RUN=1 only prints the commands
ENVIRONMENT ?= kind
CONTEXT ?= kind-millrace
# Where test-cluster runs: local (a Kubernetes made for it, as root), kind (by Docker), existing (the cluster of CONTEXT)
CLUSTER ?= local
# How many processes share the tests; each takes up to 5 GiB, and a third works while two wait. A file's tests stay
# together, in the order of the folders.
WORKERS ?= $(shell awk '/^MemTotal/ { print ($$2 > 18 * 2 ^ 20) ? 3 : 2 }' /proc/meminfo 2>/dev/null || echo 2)
SHARED = --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
RUN_ARGUMENTS = --from '$(FROM)' --days '$(DAYS)' --pace '$(PACE)' $(if $(RESUME),--resume)

# The pods' and the apps' libraries are imported from where they live; nothing is installed twice.
export PYTHONPATH := $(CURDIR):$(CURDIR)/dags:$(CURDIR)/spark-apps
SYNC = $(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes
MILLRACE = $(BIN)/python -m embedded
KUBERNETES = $(BIN)/python -m k8s.install

.DEFAULT_GOAL := help
.PHONY: help setup run up down status logs clean test test-unit test-images test-cluster lint format bench lock chart-docs images sbom
.PHONY: new-pipeline
.PHONY: kind-up kind-run kind-down ui secrets kafka-ca install uninstall

help: ## List the targets
	@echo "Millrace: a streaming platform for Kubernetes. make run needs no cluster; docs/install.md is for those that do."
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "Settings of run: FROM=2013-01-01 DAYS=31 PACE=0 (as fast as possible; N = N times real time) RESUME=1"
	@echo "Settings of install, uninstall, secrets, kafka-ca, ui: ENVIRONMENT=kind|staging|production CONTEXT=kind-millrace DRY_RUN=1"
	@echo "Ports: KAFKA_PORT=19092 AIRFLOW_PORT=8080    State: MILLRACE_HOME=.millrace"

setup: $(VENV)/.all ## Make the Python environment, fetch the jars (run and test do so themselves), make starts faster
	@$(MILLRACE) archive

$(VENV)/.run: $(RUN_GROUPS:%=requirements/%.lock)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
	  echo "Millrace needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true): install one, or name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@[ ! -L $(VENV) ] || { echo "$(VENV) is a link, and what it points to would be emptied: remove the link, then try again" >&2; exit 1; }
	@echo "Making the Python environment in $(VENV) (0.8 GB to download, 1.8 GB on disk)"
	@$(PYTHON) -m venv --clear $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed: on Debian and Ubuntu install the package python3-venv, then try again" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.lock
	@$(SYNC) $^
	@touch $@

$(VENV)/.all: $(VENV)/.run requirements/all.lock
	@echo "Adding what tests, checks and benchmarks need (another 0.8 GB on disk)"
	@$(SYNC) requirements/all.lock
	@touch $@

run: $(VENV)/.run ## Bring everything up, run the main job, show its result, take everything down
	@$(MILLRACE) run $(RUN_ARGUMENTS)

up: $(VENV)/.run ## Bring Kafka and Airflow up and keep them running
	@$(MILLRACE) up

down: $(VENV)/.run ## Stop what `make up` started
	@$(MILLRACE) down

status: $(VENV)/.run ## Say what runs, where, and where its logs are
	@$(MILLRACE) status || [ $$? -eq 3 ] # 3: nothing runs

logs: $(VENV)/.run ## Show the logs: make logs NAME=kafka FOLLOW=1
	@$(MILLRACE) logs $(NAME) $(if $(FOLLOW),--follow)

clean: $(VENV)/.run ## Remove what the runs made (lists it and asks first; YES=1 does not ask)
	@$(MILLRACE) clean $(if $(YES),--yes)

test: $(VENV)/.all ## Run every test that needs no cluster, by WORKERS=2 or 3 processes
	@$(BIN)/python -m pytest $(SHARED) $(PYTEST_ARGUMENTS)

test-unit: $(VENV)/.all ## Run the tests that start no broker and no API server (some minutes)
	@$(BIN)/python -m pytest $(SHARED) -m "not embedded and not control_plane and not images and not cluster" $(PYTEST_ARGUMENTS)

test-images: $(VENV)/.all ## Build the images on a base of Debian's packages, start each (root, buildah, mmdebstrap)
	@$(BIN)/python -m pytest -m images tests/images $(PYTEST_ARGUMENTS)

test-cluster: $(VENV)/.all ## Run everything in pods: CLUSTER=local (root, no Docker), kind, or existing with CONTEXT=...
	@CLUSTER='$(CLUSTER)' CONTEXT='$(CONTEXT)' $(BIN)/python -m pytest -m cluster tests/cluster $(PYTEST_ARGUMENTS)

lint: $(VENV)/.all ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@# One by one, as every app's module is called `app`.
	@for app in spark-apps/*/app.py; do $(BIN)/mypy "$$app" || exit 1; done

format: $(VENV)/.all ## Rewrite the sources in the house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

images: ## Build the images with docker, or buildah: make images IMAGES="spark ingest" (images/README.md)
	@images/build.sh $(IMAGES)

sbom: ## Write what the built images hold (CycloneDX) to .millrace/sbom
	@images/sbom.sh $(IMAGES)

bench: $(VENV)/.all ## Measure speed, latency and memory; writes benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks $(BENCH_ARGUMENTS)

lock: ## Compile pyproject's groups into requirements/*.lock (needs the environment; UPGRADE=1 takes newer versions)
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
	  $(if $(UPGRADE),--upgrade) $(foreach group,$(GROUPS),--group $(group)) --output-file requirements/all.lock
	@for group in $(GROUPS); do \
	  $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
	    --constraint requirements/all.lock --group $$group --output-file requirements/$$group.lock || exit 1; done
	@echo "requirements/*.lock are up to date; commit them together with pyproject.toml"

new-pipeline: $(VENV)/.run ## Lay down a pipeline of your own: make new-pipeline NAME=my_pipeline (DRY_RUN=1 only lists it)
	@$(BIN)/python -m new_pipeline $(if $(DRY_RUN),--dry-run) -- '$(NAME)'

chart-docs: $(VENV)/.all ## Write charts/millrace/README.md from the chart's values
	@$(BIN)/python -m tests.charts.readme

kind-up: $(VENV)/.run ## Make a kind cluster and bring everything up in it (goes on where an earlier try ended)
	@$(KUBERNETES) up $(if $(DRY_RUN),--dry-run)

kind-run: $(VENV)/.run ## Run the main job in the cluster and show its tasks (settings as for run)
	@$(KUBERNETES) run --context '$(CONTEXT)' $(RUN_ARGUMENTS)

kind-down: $(VENV)/.run ## Delete the kind cluster (lists it and asks first; YES=1 does not ask)
	@$(KUBERNETES) down $(if $(YES),--yes) $(if $(DRY_RUN),--dry-run)

ui: $(VENV)/.run ## Forward the pages of the cluster to this machine, and say where their passwords are
	@$(KUBERNETES) ui --context '$(CONTEXT)' $(if $(DRY_RUN),--print)

secrets: $(VENV)/.run ## Make the secrets that are absent in the cluster
	@$(KUBERNETES) secrets --environment '$(ENVIRONMENT)' --context '$(CONTEXT)'

kafka-ca: $(VENV)/.run ## Copy the certificate of Kafka's authority to where its clients are
	@$(KUBERNETES) kafka-ca --context '$(CONTEXT)'

install: $(VENV)/.run ## Install all releases in a cluster, in order: make install ENVIRONMENT=staging CONTEXT=my-cluster
	@$(KUBERNETES) install --environment '$(ENVIRONMENT)' --context '$(CONTEXT)' \
	  $(if $(RELEASE),--only '$(RELEASE)') $(if $(DRY_RUN),--dry-run)

uninstall: $(VENV)/.run ## Uninstall all releases, in reverse order (lists them and asks first; EVERYTHING=1, YES=1)
	@$(KUBERNETES) uninstall --context '$(CONTEXT)' $(if $(YES),--yes) $(if $(EVERYTHING),--everything) $(if $(DRY_RUN),--dry-run)
