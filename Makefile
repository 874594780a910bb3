# Copyright The BatchCompute Operator Authors.
# SPDX-License-Identifier: Apache-2.0

# Where demo, deploy and e2e run: local (built from Go modules), kind, existing ($KUBECONFIG).
CLUSTER ?= local
# What Pods run on in a local cluster: auto, node, process, fake, control-plane.
NODE ?= auto
# The local cluster's name.
NAME ?= demo
# The operator's image, which has the gateway as well, and that of the agent in the Pods of tasks with data.
IMAGE ?= batchcompute-operator:dev
AGENT_IMAGE ?= batchcompute-agent:dev
# Whether `make deploy` deploys the gateway too. Its certificate is made unless the Secret is there: see docs/gateway.md.
GATEWAY ?= false
# How large the agent's image may be: nodes pull it before they start a task. Unit: bytes.
AGENT_IMAGE_BYTES := 10000000
# Where the API server finds the webhook of `make run`.
WEBHOOK_URL ?= https://127.0.0.1:9443
# Where `make run` serves metrics and probes.
METRICS_ADDR ?= 127.0.0.1:8443
PROBE_ADDR ?= 127.0.0.1:8081
# How long `make fuzz` spends on each target.
FUZZTIME ?= 60s
# How long `make soak` submits jobs.
SOAK ?= 90s
# Flags of `make bench`, such as --shapes=S1-2000,S4 --rounds=5, or --small, or --check for CI.
BENCH ?=
# What `make bench-data` measures: short or long; and in how many rounds.
DATA ?= short
ROUNDS ?= 5
# How many random runs `make sim` plays, their seed, and how long it searches. The seed is the time of the commit, so that a
# commit that has passed passes again; SIM_SEED=0 takes one from the clock, for long runs such as
# make sim SIM_SEED=0 SIM_RUNS=200000.
SIM_RUNS ?= 5000
SIM_SEED ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1)
SIM_TIME ?= 60s
# Further flags of go test in unit and integration, such as -race.
TESTFLAGS ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

SHELL := /bin/sh
.SHELLFLAGS := -ec
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

CONTROLLER_GEN := hack/tools/run.sh . controller-gen
CRD_REF_DOCS := hack/tools/run.sh crd-ref-docs crd-ref-docs
GOLANGCI_LINT := hack/tools/run.sh golangci-lint golangci-lint
VERSITYGW := hack/tools/run.sh --path versitygw versitygw
# It is licensed under the AGPL: tests run it as a process, and nothing links it.
MINIO := hack/tools/run.sh --path minio minio
# A webhook has a URL (make run) or a service (make deploy). The manager may own the one that
# is there, and server-side apply does not take that away, so between the two it is deleted and created again.
WEBHOOK_CONFIGURATIONS := validatingwebhookconfiguration/batchcompute-validating-webhook-configuration \
	mutatingwebhookconfiguration/batchcompute-mutating-webhook-configuration
# Every Go module of the repository whose code is ours.
MODULES := . hack/cluster
GO_BUILD := CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'

##@ General

.PHONY: help
help: ## Show this text.
	@awk 'BEGIN {FS = ":.*## "} \
	/^##@ / {printf "\n%s\n", substr($$0, 5)} \
	/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nVariables: CLUSTER=%s NODE=%s NAME=%s IMAGE=%s\n' '$(CLUSTER)' '$(NODE)' '$(NAME)' '$(IMAGE)'
	@printf 'Of make run, to start several: WEBHOOK_URL=%s METRICS_ADDR=%s PROBE_ADDR=%s\n' '$(WEBHOOK_URL)' '$(METRICS_ADDR)' '$(PROBE_ADDR)'

##@ Development

.PHONY: generate
generate: ## Generate deepcopy functions, CRDs, RBAC, webhook manifests and the API reference.
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt paths=./api/...
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:dir=config/crd/bases
	$(CONTROLLER_GEN) rbac:roleName=manager-role webhook paths=./cmd/... paths=./controllers/... paths=./internal/... \
		output:rbac:dir=config/rbac output:webhook:dir=config/webhook
	$(CRD_REF_DOCS) --config=hack/tools/crd-ref-docs/config.yaml --templates-dir=hack/tools/crd-ref-docs/templates \
		--source-path=api/v1alpha1 --renderer=markdown --output-path=docs/api.md --max-depth=100 --log-level=WARN

.PHONY: fmt
fmt: ## Format the code.
	gofmt -w $$(git ls-files --cached --others --exclude-standard '*.go')

.PHONY: vet
vet: ## Run go vet in every module.
	rc=0; for m in $(MODULES); do (cd "$$m" && go vet ./... && go vet -tags=e2e ./...) || rc=1; done; exit $$rc

.PHONY: lint
lint: ## Run golangci-lint in every module.
	top=$$(pwd); rc=0; for m in $(MODULES); do \
		(cd "$$m" && "$$top"/$(GOLANGCI_LINT) run --config "$$top/.golangci.yml" ./...) || rc=1; \
	done; exit $$rc

##@ Tests

.PHONY: test
test: ## Run every test there is, the demo included, and sum up.
	CLUSTER=$(CLUSTER) NODE=$(NODE) MAKE='$(MAKE)' hack/test.sh unit integration faults hostile sim e2e+e2e-process bench-check soak demos

.PHONY: unit
unit: ## Run the tests that need no cluster.
	rc=0; for m in $(MODULES); do (cd "$$m" && env -u KUBEBUILDER_ASSETS go test $(TESTFLAGS) ./...) || rc=1; done; exit $$rc

.PHONY: integration
integration: bin/cluster ## Run the tests that need an API server and etcd, or an S3 server.
	assets=$$(bin/cluster bin-dir --tier control-plane); s3=$$($(VERSITYGW)); rc=0; for m in $(MODULES); do \
		(cd "$$m" && KUBEBUILDER_ASSETS="$$assets" VERSITYGW="$$s3" CI_REQUIRE_INTEGRATION=1 go test $(TESTFLAGS) -skip='^TestFaults|^TestSim|^TestHostile' -timeout=20m ./...) || rc=1; \
	done; exit $$rc

# What was played, and which mistakes that were put in were found, is told at the end.
.PHONY: sim
sim: ## Play jobs against an API server in memory: every fault, and mistakes that must be found.
	@log=$$(mktemp); rc=0; go test $(TESTFLAGS) -run='^TestSim' -count=1 -timeout=30m -v ./controllers/batchjob \
		-args -sim.runs=$(SIM_RUNS) -sim.seed=$(SIM_SEED) -sim.time=$(SIM_TIME) -sim.mutations=all >"$$log" 2>&1 || rc=$$?; \
	if [ $$rc = 0 ]; then grep -E 'search: |mutation ' "$$log"; else cat "$$log"; fi; \
	sed -n 's/^.*go:[0-9]*: sim: /sim: /p' "$$log"; rm -f "$$log"; exit $$rc

# Most of these tests wait for clocks, leases and back-offs, so many go at the same time.
.PHONY: faults
faults: bin/cluster ## Break the API server, etcd, watches, leases and every write under the operator.
	@assets=$$(bin/cluster bin-dir --tier control-plane); failed=$$(mktemp); \
	{ KUBEBUILDER_ASSETS="$$assets" CI_REQUIRE_INTEGRATION=1 go test $(TESTFLAGS) -run='^TestFaults' -count=1 -parallel=10 \
		-timeout=15m -v ./controllers/batchjob 2>&1 || echo yes >"$$failed"; } | grep -vE '^ *(===|--- PASS.*/(write|seed)_)'; \
	rc=0; [ ! -s "$$failed" ] || rc=1; rm -f "$$failed"; exit $$rc

# Each bounds what it does in count and time, and its traffic stays on this machine.
.PHONY: hostile
hostile: bin/cluster ## Attack the operator as a tenant, a Pod on the network or a forger would.
	@assets=$$(bin/cluster bin-dir --tier control-plane); failed=$$(mktemp); \
	{ KUBEBUILDER_ASSETS="$$assets" CI_REQUIRE_INTEGRATION=1 go test $(TESTFLAGS) -run='^TestHostile' -count=1 \
		-timeout=15m -v ./cmd/... ./controllers/... ./internal/... 2>&1 || echo yes >"$$failed"; } | \
		grep -vE '^ *(===|\?  )|no tests to run|^PASS$$|^ +--- PASS'; \
	rc=0; [ ! -s "$$failed" ] || rc=1; rm -f "$$failed"; exit $$rc

.PHONY: e2e
e2e: bin/cluster ## Run the users' stories against a cluster, on a real node where one can run.
	$(call stories,e2e,$(NODE))

.PHONY: e2e-process
e2e-process: bin/cluster ## Run the users' stories, less what needs containers, on the process node.
	$(call stories,e2e-process,process)

# The stories wait for Pods most of the time, so more of them go at once than there are cores. A test that panics does
# not clean up after itself, so that is done here.
define stories
	rc=0; go test -tags=e2e -count=1 -parallel=4 -timeout=30m -v ./hack/e2e/... -args --cluster=$(CLUSTER) --node=$(2) --name=$(1) || rc=$$?; \
	[ "$(CLUSTER)" = existing ] || bin/cluster down --name=$(1); exit $$rc
endef

.PHONY: soak
soak: bin/cluster bin/soak ## Run jobs for SOAK while the manager and the node are killed again and again, then data with killed agents.
	@rc=0; bin/soak --node=$(NODE) --duration=$(SOAK) || rc=1; failed=$$(mktemp); \
	{ VERSITYGW="$$($(VERSITYGW))" CI_REQUIRE_INTEGRATION=1 go test -run='^TestSoak$$' -count=1 -timeout=0 -v ./cmd/agent \
		-args -agent.soak=$(SOAK) 2>&1 || echo yes >"$$failed"; } | grep -vE '^ *(===|---|PASS)' | sed 's/^.*go:[0-9]*: soak: /soak: /'; \
	[ ! -s "$$failed" ] || rc=1; rm -f "$$failed"; exit $$rc

.PHONY: bench
bench: bin/cluster bin/bench/bench ## Measure the operator beside a bare client and the core Job controller. BENCH has more flags.
	@bin/bench/bench $(BENCH)

.PHONY: bench-check
bench-check: bin/cluster bin/bench/bench ## Measure a little, and fail if the operator is far slower than it should be.
	@rc=0; bin/bench/bench --check --out=bin/bench/check.json || rc=1; \
	assets=$$(bin/cluster bin-dir --tier control-plane); KUBEBUILDER_ASSETS="$$assets" CI_REQUIRE_INTEGRATION=1 \
		go test -run='^$$' -bench='^BenchmarkComputeEnvRelease$$' -benchtime=30x ./controllers/batchjob || rc=1; exit $$rc

# The short form takes a minute. The long one takes many, some 20 GB of disk, and rclone, which is built for it.
.PHONY: bench-data
bench-data: ## Measure the agent's transfers beside raw requests; DATA=long measures more, and rclone as well.
	@s3=$$($(VERSITYGW)); rclone=; [ $(DATA) != long ] || rclone=$$(hack/tools/run.sh --path rclone rclone); \
	rc=0; for size in $(if $(filter long,$(DATA)),'1024 10000' '5120 100','256 1000'); do set -- $$size; \
		VERSITYGW="$$s3" RCLONE="$$rclone" go test -run='^$$' -bench='^BenchmarkTransfer$$' -benchtime=$(ROUNDS)x -timeout=0 ./internal/staging \
			-args -staging.large=$$1 -staging.many=$$2 || rc=1; \
	done; exit $$rc

# Unit and integration have the short form of these tests.
.PHONY: data
data: ## Run the agent's tests with 5 GiB, 100,000 files and 1 GiB of output: some minutes, and 20 GB of disk.
	@s3=$$($(VERSITYGW)); export VERSITYGW="$$s3" CI_REQUIRE_INTEGRATION=1; \
	go test -count=1 -timeout=0 -v -run='^(TestMemory|TestAllocations|TestLarge)' ./internal/staging -args -staging.large=5120 -staging.many=100000; \
	go test -count=1 -timeout=0 ./internal/wrapper -args -wrapper.bytes=1073741824

# Not a part of test, since the server takes more than 300 s of CPU time to build.
.PHONY: data-minio
data-minio: ## Run the agent's tests with a store against MinIO, over HTTP and HTTPS, with the bucket in the host and in the path.
	@minio=$$($(MINIO)); MINIO="$$minio" go test -count=1 -timeout=30m -v -run='MinIO$$' ./internal/staging ./internal/staging/store ./cmd/agent

.PHONY: demos
demos: bin/cluster ## Run the demo on a real node, where one can run, and on the process node.
	rc=0; for node in auto process; do \
		$(MAKE) demo CLUSTER=local NODE=$$node NAME=demos || rc=$$?; $(MAKE) demo-down CLUSTER=local NAME=demos || rc=$$?; \
	done; exit $$rc

.PHONY: fuzz
fuzz: ## Fuzz every target for FUZZTIME.
	packages=$$(go list ./...); for p in $$packages; do \
		list=$$(go test -list '^Fuzz' "$$p"); for f in $$(echo "$$list" | grep '^Fuzz' || true); do \
			echo "== $$p $$f"; go test -run='^$$' -fuzz="^$$f\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=50x "$$p"; \
		done; \
	done

.PHONY: verify
verify: ## Check that the tree is generated, tidy, formatted and lint-free; changes nothing.
	MAKE='$(MAKE)' MODULES='$(MODULES)' hack/verify.sh

##@ Build and run

.PHONY: build
build: bin/manager bin/gateway bin/linux/agent bin/cluster ## Build the manager, the gateway, the agent and the tools into bin/.

.PHONY: image
image: bin/image.tar bin/agent.tar ## Pack the manager with the gateway, and the agent, as images: bin/image.tar and bin/agent.tar.

.PHONY: run
run: bin/manager bin/cluster ## Run the manager on this machine against the cluster, webhook included.
	$(use_cluster); \
	kubectl -n batchcompute-system delete deployment batchcompute-controller-manager --ignore-not-found; \
	kubectl delete $(WEBHOOK_CONFIGURATIONS) --ignore-not-found; \
	kubectl apply --server-side --force-conflicts -k config/host; \
	port=$$(printf '%s' '$(WEBHOOK_URL)' | sed -n 's#^https://.*:\([0-9]*\)/*$$#\1#p'); \
	exec bin/manager --catalog=config/manager/catalog.yaml --webhook-url=$(WEBHOOK_URL) --webhook-bind-address=":$${port:-443}" \
		--metrics-bind-address=$(METRICS_ADDR) --health-probe-bind-address=$(PROBE_ADDR)

.PHONY: install
install: bin/cluster ## Install the CRDs into the cluster.
	$(use_cluster); kubectl apply --server-side -k config/crd

.PHONY: deploy
deploy: bin/cluster bin/deploy ## Deploy the operator into the cluster; IMAGE and AGENT_IMAGE name it for CLUSTER=existing, GATEWAY=true adds the gateway.
	bin/deploy --cluster=$(CLUSTER) --node=$(NODE) --name=$(NAME) --image=$(IMAGE) --agent-image=$(AGENT_IMAGE) --gateway=$(GATEWAY)

.PHONY: undeploy
undeploy: bin/cluster ## Remove the operator, its CRDs and with them every job.
	$(use_cluster); \
	kubectl delete --ignore-not-found --wait -f config/crd/bases; \
	kubectl delete --ignore-not-found -k config/default-gateway; \
	go run ./cmd/kubectl-batchjob release-finalizers --all-namespaces

.PHONY: clean
clean: ## Remove what was built here; caches outside the tree stay.
	rm -rf bin

##@ Local cluster

.PHONY: demo
demo: bin/cluster bin/demo bin/sdk-demo bin/kubectl-batchjob ## Bring up a cluster, deploy the operator, run the samples, and a program with the vendor's SDK.
	@bin/demo --cluster=$(CLUSTER) --node=$(NODE) --name=$(NAME) --image=$(IMAGE) --agent-image=$(AGENT_IMAGE)

.PHONY: demo-down
demo-down: $(if $(filter existing,$(CLUSTER)),undeploy) cluster-down ## Remove everything that demo made.

.PHONY: cluster-up
cluster-up: bin/cluster ## Bring up a cluster.
	bin/cluster up --name=$(NAME) --tier=$(NODE) --provider=$(CLUSTER)

.PHONY: cluster-down
cluster-down: bin/cluster ## Remove the cluster.
	bin/cluster down --name=$(NAME)

# Shell code that points kubectl at the cluster. An existing one is used as it is.
ifeq ($(CLUSTER),existing)
use_cluster := :
else
use_cluster = KUBECONFIG=$$(bin/cluster kubeconfig --name=$(NAME)); export KUBECONFIG; \
	command -v kubectl >/dev/null || PATH=$$(bin/cluster bin-dir --tier=control-plane):$$PATH
endif

# Go knows best what has changed, so it is always asked.
.PHONY: FORCE
FORCE:

bin/manager bin/gateway: FORCE
	@hack/progress.sh $@ env $(GO_BUILD) -o $@ ./cmd/$(@F)

bin/linux/manager bin/linux/gateway bin/linux/agent: FORCE
	@hack/progress.sh $@ env GOOS=linux $(GO_BUILD) -o $@ ./cmd/$(@F)

bin/cluster: FORCE
	@hack/progress.sh $@ env CGO_ENABLED=0 go -C hack/cluster build -o ../../$@ .

bin/kubectl-batchjob: FORCE
	@hack/progress.sh $@ env $(GO_BUILD) -o $@ ./cmd/$(@F)

# The vendor's SDK is in a module of its own.
bin/sdk-demo: FORCE
	@hack/progress.sh $@ env CGO_ENABLED=0 go -C hack/sdk/demo build -o ../../../$@ .

bin/demo bin/deploy bin/soak: FORCE
	@hack/progress.sh $@ env CGO_ENABLED=0 go build -o $@ ./hack/$(@F)

bin/bench/bench: FORCE
	@hack/progress.sh $@ env CGO_ENABLED=0 go build -o $@ ./hack/bench

bin/image.tar: bin/linux/manager bin/linux/gateway bin/cluster
	bin/cluster image -o $@ --name $(IMAGE) --entrypoint /manager --user 65532:65532 \
		/manager=bin/linux/manager /gateway=bin/linux/gateway

bin/agent.tar: bin/linux/agent bin/cluster
	bin/cluster image -o $@ --name $(AGENT_IMAGE) --entrypoint /agent --user 65532:65532 /agent=bin/linux/agent
	@size=$$(($$(wc -c <$@))); [ $$size -le $(AGENT_IMAGE_BYTES) ] || \
		{ echo "$@ has $$size bytes, more than $(AGENT_IMAGE_BYTES): find what made cmd/agent grow"; rm $@; exit 1; }
