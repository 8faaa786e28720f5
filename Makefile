# make, or make help, lists the targets.
.DEFAULT_GOAL := help
.PHONY: help test race lint fmt fix fuzz examples hosts ci tools cover

FUZZTIME ?= 50000x
GOFILES = $(shell git ls-files -co --exclude-standard -- '*.go' ':!:*/testdata/*')
# Modules with code of our own; tools has none.
MODULES = . $(filter-out tools,$(patsubst %/go.mod,%,$(wildcard */go.mod)))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: ## all tests, as in the README
	go test ./...

race: ## all tests of all modules under the race detector
	for m in $(MODULES); do (cd $$m && go test -race ./...) || exit 1; done

lint: tools ## go vet and golangci-lint
	for m in $(MODULES); do (cd $$m && go vet ./... && $(CURDIR)/bin/golangci-lint run ./...) || exit 1; done

fmt: tools ## format all Go files
	bin/gofumpt -w $(GOFILES)

fix: ## modernise the code (go fix) in place
	for m in $(MODULES); do (cd $$m && go fix ./...) || exit 1; done

fuzz: ## each fuzz target for FUZZTIME (50000x)
	go test -list '^Fuzz' ./... | awk '/^Fuzz/ { n[++i] = $$1 } /^ok/ { while (i) print $$2, n[i--] }' | \
	while read -r pkg target; do go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; done

examples: ## the main job, plain and with a worker killed half-way
	go run ./examples/wordcount
	go run ./examples/wordcount -kill 1

hosts: ## clusters over several hosts (network namespaces; Linux, root)
	bash .ci/run '^hosts'

ci: ## everything that a change must pass
	bash .ci/run

tools: ## golangci-lint and gofumpt into bin/
	GOWORK=off go -C tools build -o ../bin/ tool

cover: ## coverage of all packages by all tests, as HTML
	go test -coverpkg=./... -coverprofile=cover.out ./...
	go tool cover -html=cover.out -o cover.html
	@echo cover.html
