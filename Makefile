# The entry to everything: `make help` lists the targets.
# Tools live in .venv, caches and reports in build/; nothing else on the machine changes.
SHELL := /bin/sh
.DEFAULT_GOAL := help
# Flags of an outer make must not leak into the tools; one target at a time shares .venv.
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

PYTHON := .venv/bin/python
LAYERS := $(PYTHON) tests/layers.py
bootstrap = @command -v python3 >/dev/null || { \
	echo 'make: python3 is wanted and was not found; it runs Ansible. To do: sudo apt-get install python3 python3-venv' >&2; exit 1; }; \
	python3 bin/bootstrap-venv $(1)

##@ Look
drift: ## What is wrong with this machine, touching nothing (ROOT=1: look with sudo, ARGS=…: more options)
	$(call bootstrap,drift)
	@$(PYTHON) bin/spark-drift --exit-zero $(if $(ROOT),--become) $(ARGS)

demo: ## A simulated node serves a tiny model (as root; else this machine does), in build/demo
	$(call bootstrap,drift)
	@$(PYTHON) -B tests/demo/demo.py

##@ Prove
test: ## Every layer of tests (INSTALL=1: install missing system packages, ONLY=a,b: these layers)
	$(call bootstrap,test)
	@$(LAYERS) $(if $(ONLY),--only $(ONLY)) $(ARGS)

test-matrix: ## The tests under every other Python and ansible-core, Triton and CUDA
	$(call bootstrap,test)
	@$(LAYERS) --only newest-python,newest,ptxas-matrix $(ARGS)

test-vllm: ## A real vLLM, on processors, by its unit on a real node (2 GB of packages, once)
	$(call bootstrap,test)
	@$(LAYERS) --only vllm $(ARGS)

test-kill: ## Runs cut off in the middle, on real nodes
	$(call bootstrap,test)
	@$(LAYERS) --only kill $(ARGS)

test-arm64: ## The modules on an emulated arm64, as a Spark is (INSTALL=1 installs the emulator)
	$(call bootstrap,test)
	@$(LAYERS) --only arm64 $(ARGS)

test-roles: ## The molecule scenario of every role
	$(call bootstrap,test)
	@$(LAYERS) --only roles $(ARGS)

test-hardening: ## lynis before and after the roles that harden, on an emulated machine (up to half an hour)
	$(call bootstrap,test)
	@$(LAYERS) --only hardening $(ARGS)

bench: ## What a run costs: calls and seconds, and a report of a thousand nodes
	$(call bootstrap,test)
	@$(LAYERS) --only scale,bench $(ARGS)

layers: ## List the layers of tests, what each proves and needs
	$(call bootstrap,test)
	@$(LAYERS) --list

##@ Maintain
docs: ## Tables of the roles, the catalogue of controls, and the documentation as HTML in build/docs
	$(call bootstrap,test)
	@$(PYTHON) tests/tools/readme.py
	@$(PYTHON) tests/tools/artefact.py docs

lock: ## Resolve requirements/*.in and the locks that go to nodes again, hash-locked
	$(call bootstrap,test)
	@$(PYTHON) tests/tools/lock.py $(ARGS)

clean: ## Remove what make made, .venv included
	@rm -rf build .venv .ansible

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: drift demo test test-matrix test-vllm test-kill test-arm64 test-roles test-hardening bench layers docs lock clean help
