# Run `make help`. Longer logic lives in scripts/.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export DEV_DIR ?= $(CURDIR)/.dev
export WRENN_STARTED_AT_MS := $(shell date +%s%3N)
export PATH := $(CURDIR)/build/tools/node_modules/.bin:$(CURDIR)/node_modules/.bin:$(PATH)

# Programs that touch the kernel run as root; given settings of the caller reach them.
CHOICES := DATABASE_URL,REDIS_URL,WRENN_COW,WRENN_VMM,WRENN_WARM,WRENN_UID_BASE,LOG_LEVEL
SUDO := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env=PATH,DEV_DIR,WRENN_STARTED_AT_MS,WRENN_SOAK,$(CHOICES))
DEV = $(SUDO) bun scripts/dev/main.ts
# Made by the caller, whose it stays. What is wrong with it is said better by the program.
HOME_DIR = mkdir -p "$(DEV_DIR)" 2>/dev/null || true;

include native/native.mk

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | sort | awk -F '\t' '{printf "  %-18s %s\n", $$1, $$2}'

.PHONY: bootstrap artifacts tree
bootstrap: ## Install what is missing: Debian packages, Bun, npm dependencies
	@scripts/bootstrap.sh

artifacts: bootstrap ## Build what a platform runs on: native library, envd, guest kernel, base image
	@$(MAKE) -j4 native envd guest-kernel tree
	@$(SUDO) bun rootfs/build.ts image minimal-debian

.PHONY: envd guest-kernel
envd:
	@bun scripts/build-envd.ts

guest-kernel:
	@$(SUDO) bun rootfs/build.ts kernel

tree:
	@$(SUDO) bun rootfs/build.ts tree minimal-debian

.PHONY: dev dev-up dev-down dev-reset dev-cp dev-agent
dev: artifacts ## Start a platform or heal it, run a first capsule, stay until Ctrl-C
	@$(HOME_DIR) $(DEV) dev

dev-up: artifacts ## The same in the background
	@$(HOME_DIR) $(DEV) up

dev-down: ## Stop it; its data stays
	@$(DEV) down

dev-reset: ## Stop it and delete its data
	@$(DEV) reset

dev-cp: ## Replace the running platform's control plane by one that reloads on each change
	@$(DEV) cp

dev-agent: ## Replace the running platform's agent by one that restarts on each change
	@$(DEV) agent

.PHONY: check fmt test test-unit soak bench
check: bootstrap ## Types, lint, rules of the layout, C warnings
	@tsc -p . && biome ci --error-on-warnings . && bun test --only-failures ./tests/tidy.test.ts ./tests/tidy-c.test.ts ./tests/tidy-shell.test.ts ./tests/plan.test.ts && $(MAKE) native

fmt: bootstrap ## Format everything
	@biome check --write . && clang-format -i $(wildcard $(shell git ls-files -co --exclude-standard '*.c' '*.h'))

test: artifacts build ## Everything, on real microVMs (FILES="agent/vmm tests/e2e/warm.e2e.test.ts": these only)
	@$(SUDO) bun scripts/test.ts all $(FILES)

test-unit: bootstrap ## What needs neither root nor microVMs
	@$(MAKE) native envd && bun scripts/test.ts unit

soak: artifacts build ## Everything with the full counts and sizes (FILES as above)
	@$(SUDO) bun scripts/test.ts soak $(FILES)

bench: artifacts ## Measure, each figure beside its baseline in the same run (BENCH="pause fork": these only)
	@$(SUDO) bun tests/bench/main.ts $(BENCH)

.PHONY: test-host
test-host: artifacts build ## On a nested host with KVM and device-mapper (MODE=short or full, FILES=...; NATIVE=1: on this machine; WRENN_SOAK=1: full counts)
	@$(SUDO) bun tests/host-rig/main.ts $(if $(NATIVE),native,$(or $(MODE),full)) $(FILES)

.PHONY: build kernel proto migrate-up clean
build: bootstrap ## Programs that run without the repository, into builds/
	@$(MAKE) native && bun scripts/build.ts

kernel: bootstrap ## The optimised guest kernel, from Debian's linux-source (minutes)
	@$(SUDO) bun rootfs/build.ts optimised-kernel

proto: bootstrap ## Generate code from proto/*.proto
	@cd proto && buf generate

migrate-up: bootstrap ## Apply the migrations to DATABASE_URL
	@bun cp/main.ts migrate

clean: ## Delete what was built
	@rm -rf build/native build/envd build/junit.xml builds
