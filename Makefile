# SPDX-License-Identifier: Apache-2.0

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0)
DESTDIR ?=
PREFIX  ?= /usr
B       := build
CHECKS  ?= 25

export CGO_ENABLED = 0
# What tests compare with prints and reads names in UTF-8 only where the locale says so.
export LC_ALL = C.UTF-8
# Where set-up puts a toolchain if the system's is too old, and where Debian keeps mkfs.
export PATH := $(CURDIR)/build/go/bin:$(PATH):/usr/local/go/bin:/usr/sbin:/sbin
LDFLAGS := -s -w -X github.com/hostctl/hostctl/internal/version.Version=$(VERSION)
BUILD   := $(GO) build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)"

.PHONY: all build setup-build setup-compose setup-test setup-bench demo demo-quick test unit race vet lint interop libostree ostree-tests bench-ostree bench-compose fuzz vm vm-matrix features power-loss crash-vm crash-matrix install install-compose rpmroot rpm clean

all: build

setup-build setup-compose setup-test setup-bench:
	@dist/setup.sh $(@:setup-%=%)

build: setup-build
	@mkdir -p $(B)
	$(BUILD) -o $(B)/ ./cmd/hostctl ./cmd/compose-server
	$(BUILD) -o $(B)/hostctl-prepare-root ./cmd/hostctl/prepare-root

# What an RPM of the project would install, as a folder.
rpmroot: build
	@rm -rf $(B)/rpmroot
	@$(MAKE) --no-print-directory install DESTDIR=$(CURDIR)/$(B)/rpmroot

# The same as a package, in build/rpms.
RPMDIR ?= $(CURDIR)/$(B)/rpms
rpm: build
	rpmbuild -bb --quiet --nodeps --build-in-place --define "_topdir $(CURDIR)/$(B)/rpmbuild" --define "_rpmdir $(RPMDIR)" dist/hostctl.spec

install:
	install -Dm0755 $(B)/hostctl $(DESTDIR)$(PREFIX)/bin/hostctl
	install -Dm0755 $(B)/hostctl-prepare-root $(DESTDIR)$(PREFIX)/lib/hostctl/hostctl-prepare-root
	for f in dist/dracut/50hostctl/*; do install -Dm0755 $$f $(DESTDIR)$(PREFIX)/lib/dracut/modules.d/50hostctl/$${f##*/}; done
	for f in dist/systemd/*.service dist/systemd/*.path dist/systemd/*.timer; do install -Dm0644 $$f $(DESTDIR)$(PREFIX)/lib/systemd/system/$${f##*/}; done
	for f in dist/systemd/*.preset; do install -Dm0644 $$f $(DESTDIR)$(PREFIX)/lib/systemd/system-preset/$${f##*/}; done
	install -Dm0644 dist/dbus/org.projectatomic.rpmostree1.conf $(DESTDIR)$(PREFIX)/share/dbus-1/system.d/org.projectatomic.rpmostree1.conf
	install -Dm0644 dist/dbus/org.projectatomic.rpmostree1.service $(DESTDIR)$(PREFIX)/share/dbus-1/system-services/org.projectatomic.rpmostree1.service
	install -Dm0644 dist/systemd/hostctl.tmpfiles.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/hostctl.conf
	install -Dm0644 dist/dracut/prepare-root.conf $(DESTDIR)$(PREFIX)/lib/ostree/prepare-root.conf
	for d in check/required.d check/wanted.d green.d red.d; do mkdir -p $(DESTDIR)/etc/greenboot/$$d $(DESTDIR)$(PREFIX)/lib/greenboot/$$d; done
	mkdir -p $(DESTDIR)$(PREFIX)/share/man/man8
	$(B)/hostctl internal man $(DESTDIR)$(PREFIX)/share/man/man8
	$(call completions,hostctl)

# The composer, which hosts do not need.
install-compose:
	install -Dm0755 $(B)/compose-server $(DESTDIR)$(PREFIX)/bin/compose-server
	mkdir -p $(DESTDIR)$(PREFIX)/share/man/man8
	$(B)/compose-server internal man $(DESTDIR)$(PREFIX)/share/man/man8
	$(call completions,compose-server)

# Where bash, zsh and fish look for the completion of $(1).
define completions
@mkdir -p $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions zsh/site-functions fish/vendor_completions.d)
$(B)/$(1) completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$(1)
$(B)/$(1) completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$(1)
$(B)/$(1) completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$(1).fish
endef

demo: setup-compose rpmroot
	@$(GO) run ./tests/demo

demo-quick: setup-compose rpmroot
	@$(GO) run ./tests/demo --quick

test: setup-test vet unit libostree ostree-tests interop vm

# With all questions to the solver, which would take minutes under the race detector.
unit:
	HOSTCTL_SOLVE_ALL=1 $(GO) test ./...

# The programs and packages; what is in tests runs them as other processes.
race: setup-test
	CGO_ENABLED=1 $(GO) test -race $$($(GO) list ./... | grep -v /tests/)

vet:
	@test -z "$$(gofmt -l cmd internal pkg tests)" || { gofmt -l cmd internal pkg tests; echo "gofmt: the files above need formatting"; exit 1; }
	$(GO) vet ./...
	GOARCH=386 $(GO) vet ./...

lint:
	$(GO) tool -modfile=tools.mod golangci-lint run

# The composed tree against ostree and rpm, and bad input; needs root.
interop: setup-test rpmroot
	HOSTCTL_E2E=tree $(GO) test -count=1 -v -timeout 40m ./tests/e2e
	HOSTCTL_TESTDISTRO=$(CURDIR)/build/lab/distro/v1 HOSTCTL_TESTDISTRO_NO_INITRAMFS=1 \
		$(GO) test -count=1 -v -timeout 20m -run TestDistro ./pkg/rpmcompose/postprocess

# libostree's own test scripts with its program and with ours.
ostree-tests: setup-test
	$(GO) run ./tests/interop $(INTEROPFLAGS)

# Random trees written by libostree and read by us, and the reverse.
libostree: setup-test
	cd tests/libostree && CGO_ENABLED=1 $(GO) vet ./... && CGO_ENABLED=1 $(GO) test -count=1 -rapid.checks=$(CHECKS) -rapid.nofailfile ./...

# The same work with libostree and with us, in turn; ratios of the medians.
bench-ostree: setup-compose rpmroot
	@$(GO) run ./tests/bench $(BENCHFLAGS)

# Every parser of the repository, FUZZTIME each; ends with the first finding.
FUZZTIME ?= 10m
fuzz:
	@$(GO) run ./tests/fuzz -time $(FUZZTIME) ./pkg/ostree/...

# The same compose with dnf and ostree and with us; BENCHFLAGS=--check fails where a limit is not met.
bench-compose: setup-bench rpmroot
	@$(GO) run ./tests/benchcompose $(BENCHFLAGS)

# A machine in QEMU: boot, upgrade, roll back, be killed twice.
vm: setup-test rpmroot
	HOSTCTL_E2E=machine,crash,trial $(GO) test -count=1 -v -timeout 90m ./tests/e2e

# A machine's life, trials included, under every boot loader: HOSTCTL_MATRIX=uefi-grub,... for some.
vm-matrix: setup-test rpmroot
	HOSTCTL_E2E=matrix $(GO) test -count=1 -v -timeout 180m ./tests/e2e

# A tree with packages of every kind, composed and booted.
features: setup-test rpmroot
	HOSTCTL_E2E=features $(GO) test -count=1 -v -timeout 60m -run Features ./tests/e2e

# What boots after a power loss during every boot write, for models of all boot loaders; counts the states.
power-loss: setup-test
	$(GO) test -count=1 -v -run PowerLoss ./tests/crash

# The same machine killed ten times.
crash-vm: setup-test rpmroot
	HOSTCTL_E2E=crash HOSTCTL_CRASHES=10 $(GO) test -count=1 -v -timeout 90m ./tests/e2e

# Machines with ext4, xfs and btrfs roots and one with /boot on FAT, killed HOSTCTL_CRASHES
# (15) times each; one table at the end. HOSTCTL_CRASH_KINDS=xfs,fat for some.
crash-matrix: setup-test rpmroot
	HOSTCTL_E2E=crash-matrix $(GO) test -count=1 -v -timeout 300m -run TestCrashMatrix ./tests/e2e

clean:
	chattr -R -f -i $(B)/lab/*/ostree/deploy 2>/dev/null || true
	rm -rf $(B)
