# Copyfleet needs Go and make; the race detector of `make test` needs a C compiler too.
# Everything else is built from pinned sources into .tools/ at its first use.

SHELL       := /bin/sh
MAKEFLAGS   += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO    ?= go
# Another directory makes another set of tools; it may be relative.
TOOLS ?= .tools
T     := $(abspath $(TOOLS))

# What `make test`, `make bench` and `make bench-once` run on, and what is added to go test's flags.
PKGS      ?= ./...
TESTFLAGS ?=
FORMAT    ?= pkgname
BENCH     ?= .
COUNT     ?= 6

# Peers of the tests and benchmarks. Each is installed as a module build of its own, because their
# dependencies would clash with ours and with each other. docs/dependencies.md gives the reasons.
MINIO_VERSION  := v0.0.0-20260212201848-7aac2a2c5b7c
RCLONE_VERSION := v1.75.1

# A tool build depends on nothing around it: no GOFLAGS, no workspace, no C compiler.
TOOLENV := env GOFLAGS= GOWORK=off CGO_ENABLED=0

# An unpacked archive has no .git, and one that lies inside another repository is not described by it.
version = $(shell test -e .git && git describe --tags --match 'v*' --always --dirty 2>/dev/null || echo dev)
# Stamping asks git, and fails where git distrusts the owner of the directory.
vcs     = $(shell test -e .git && git rev-parse HEAD >/dev/null 2>&1 && echo auto || echo false)

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

## Running

.PHONY: build
build: ## Build bin/copyfleet, statically linked.
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(vcs) -ldflags '-s -w -X main.version=$(version)' -o bin/copyfleet ./cmd/copyfleet

.PHONY: up
up: build ## Run everything in one process: API, worker, aggregator, NATS, S3.
	bin/copyfleet up

.PHONY: demo
demo: build ## Show a batch of copies from start to end, then stop.
	bin/copyfleet demo

## Testing

.PHONY: test
test: compiler $(T)/minio $(T)/gotestsum ## Run all tests with the race detector; a skipped test is a failure.
	@# -shuffle also keeps go test from answering out of its cache: these tests depend on programs that it does not see.
	@# Built once for all packages whose tests run them; the names are those of internal/testkit/mixtest.
	@CGO_ENABLED=1 $(GO) build -race -o '$(T)/programs/cmd-copyfleet' ./cmd/copyfleet
	@$(GO) build -o '$(T)/programs/nats-server-v2' github.com/nats-io/nats-server/v2
	@COPYFLEET_MINIO='$(T)/minio' COPYFLEET_TEST_PROGRAMS='$(T)/programs' CGO_ENABLED=1 '$(T)/gotestsum' --format $(FORMAT) --jsonfile '$(T)/test-events.jsonl' -- \
		-race -shuffle=on -timeout 40m $(TESTFLAGS) $(PKGS); status=$$?; \
		$(TOOLENV) $(GO) -C tools run ./verdict '$(T)/test-events.jsonl' && exit $$status

.PHONY: bench
bench: build $(T)/minio $(T)/rclone $(T)/benchstat ## Measure, also against rclone and MinIO (a quarter of an hour); figures go to bin/bench.txt.
	COPYFLEET_BIN='$(CURDIR)/bin/copyfleet' COPYFLEET_MINIO='$(T)/minio' COPYFLEET_RCLONE='$(T)/rclone' \
		$(GO) test -run '^$$' -bench '$(BENCH)' -count $(COUNT) -timeout 60m $(TESTFLAGS) $(PKGS) >bin/bench.txt || { cat bin/bench.txt; exit 1; }
	'$(T)/benchstat' bin/bench.txt

.PHONY: bench-quick
bench-quick: ## The same once and with a tenth of the items, to see that every benchmark works.
	@$(MAKE) bench COUNT=1 TESTFLAGS='-short $(TESTFLAGS)'

# The folder integration/bench compares with rclone, which takes minutes to build: `make bench` runs it.
benchdirs = $(shell grep -rl --include='*_test.go' '^func Benchmark' . | grep -v -e '^./integration/bench/' -e '^./tools/' | xargs -r -n1 dirname | sort -u)

.PHONY: bench-once
bench-once: $(T)/minio ## Run each benchmark once, so that none rots.
	@set -- $(benchdirs); test $$# = 0 || \
		COPYFLEET_MINIO='$(T)/minio' $(GO) test -run '^$$' -bench . -benchtime 1x -timeout 20m "$$@"

.PHONY: compiler
compiler:
	@cc="$$($(GO) env CC)"; command -v "$${cc%% *}" >/dev/null 2>&1 || { echo "make test: the race detector needs the C compiler '$$cc', which is not installed." \
		"Install it (Debian, Ubuntu: apt-get install gcc libc6-dev; Fedora: dnf install gcc; Alpine: apk add build-base; macOS: xcode-select --install)," \
		"or name another with CC=..." >&2; exit 1; }

## Checking

LINT := --config '$(CURDIR)/.golangci.yml'

.PHONY: check
check: $(T)/golangci-lint ## Check format, linters, layering, module files, file sizes, dependency table, links.
	'$(T)/golangci-lint' config verify $(LINT)
	'$(T)/golangci-lint' fmt $(LINT) --diff
	'$(T)/golangci-lint' run $(LINT) ./...
	$(GO) vet ./...
	$(GO) mod verify
	$(GO) mod tidy -diff
	cd tools && '$(T)/golangci-lint' run $(LINT) ./...
	$(TOOLENV) $(GO) -C tools vet ./...
	$(TOOLENV) $(GO) -C tools mod tidy -diff
	$(TOOLENV) $(GO) -C tools test ./...
	$(TOOLENV) $(GO) -C tools run ./treecheck '$(CURDIR)'

.PHONY: fmt
fmt: $(T)/golangci-lint ## Format the Go code.
	'$(T)/golangci-lint' fmt $(LINT)
	cd tools && '$(T)/golangci-lint' fmt $(LINT)

.PHONY: vuln
vuln: $(T)/govulncheck ## Look for known vulnerabilities in what the binary reaches (asks the Go vulnerability database).
	@'$(T)/govulncheck' ./... || { code=$$?; test $$code = 3 || echo "make vuln: govulncheck could not do its work; it needs its database (see above)." >&2; exit $$code; }

.PHONY: sbom
sbom: build ## List every module in the binary, with version and checksum, in bin/copyfleet.sbom.txt.
	$(GO) version -m bin/copyfleet >bin/copyfleet.sbom.txt
	@awk '$$1 == "dep" {n++} END {print "bin/copyfleet.sbom.txt: " n " modules"}' bin/copyfleet.sbom.txt

## Tools

.PHONY: tools
tools: $(addprefix $(T)/,golangci-lint gotestsum govulncheck benchstat minio rclone) ## Build all tools into .tools/ (some minutes, once).

# So that `make .tools/minio` works as written.
ifneq ($(T),$(TOOLS))
$(addprefix $(TOOLS)/,golangci-lint gotestsum govulncheck benchstat minio rclone): $(TOOLS)/%: $(T)/% ;
endif

$(T)/golangci-lint: PKG := github.com/golangci/golangci-lint/v2/cmd/golangci-lint
$(T)/gotestsum:     PKG := gotest.tools/gotestsum
$(T)/govulncheck:   PKG := golang.org/x/vuln/cmd/govulncheck
$(T)/benchstat:     PKG := golang.org/x/perf/cmd/benchstat

$(addprefix $(T)/,golangci-lint gotestsum govulncheck benchstat): tools/go.mod
	@echo "building $(notdir $@)"
	@mkdir -p '$(T)'
	@$(TOOLENV) $(GO) -C tools build -trimpath -buildvcs=false -o '$@' $(PKG)
	@touch '$@'

$(T)/minio-$(MINIO_VERSION):   MODULE := github.com/minio/minio@$(MINIO_VERSION)
$(T)/rclone-$(RCLONE_VERSION): MODULE := github.com/rclone/rclone@$(RCLONE_VERSION)

# The version is part of the file's name, so that another version is another target. The build goes into a
# directory of its own and is moved when it is whole. Other versions are removed: the link below would
# otherwise look newer than a version to which one returns.
peer = $(firstword $(subst -v, ,$(notdir $@)))
$(T)/minio-$(MINIO_VERSION) $(T)/rclone-$(RCLONE_VERSION):
	@echo "building $(MODULE) (takes minutes, once)"
	@rm -rf '$(T)/$(peer).build' && mkdir -p '$(T)/$(peer).build'
	@$(TOOLENV) GOBIN='$(T)/$(peer).build' $(GO) install -trimpath '$(MODULE)'
	@rm -f '$(T)/$(peer)' '$(T)/$(peer)'-v*
	@mv '$(T)/$(peer).build/$(peer)' '$@' && rmdir '$(T)/$(peer).build'

$(T)/minio: $(T)/minio-$(MINIO_VERSION)
	@ln -sf '$(notdir $<)' '$@'
$(T)/rclone: $(T)/rclone-$(RCLONE_VERSION)
	@ln -sf '$(notdir $<)' '$@'

.PHONY: clean
clean: ## Remove what was built; .tools/ stays (it takes minutes to build again).
	rm -rf bin
