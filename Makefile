# semollm: `make` builds build/semollm; `make demo` runs the main job; `make test` tests everything.

BUILD  ?= build
ifeq ($(origin CC),default)
CC = gcc
endif
CFLAGS ?= -O3 -march=native
PREFIX ?= /usr/local

PACKAGES = build-essential pkg-config git libsndfile1-dev libsoxr-dev libebur128-dev libzstd-dev libarchive-dev \
  libxxhash-dev libjansson-dev libcyaml-dev libpcre2-dev libutf8proc-dev libkissfft-dev libdnnl-dev \
  ocl-icd-libopencl1 libcmocka-dev espeak-ng zstd

JOBS ?= $(shell nproc)
ASAN = CFLAGS="-O1 -g -march=native" \
  SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -I. $(WARNINGS) $(CFLAGS) -fno-math-errno -fopenmp -MMD -MP $(SANITIZE)
LIBS = -lsndfile -lsoxr -lebur128 -lzstd -larchive -lxxhash -ljansson -lcyaml -lyaml -lpcre2-8 -lutf8proc \
  -lkissfft-float -ldnnl -lpthread -lm

# Lowest layer first; a layer's tests link against it and everything below.
LAYERS = base kernels model data train eval
sources = $(wildcard $(1)/*.c) $(wildcard $(1)/cpu/*.c)
objects = $(patsubst %.c,$(BUILD)/%.o,$(call sources,$(1)))
library = $(BUILD)/lib$(1).a

below_base    = base
below_kernels = kernels base
below_model   = model kernels base
below_data    = data kernels base
below_train   = train model data kernels base
below_eval    = eval train model data kernels base

all: $(BUILD)/semollm

$(BUILD)/semollm: $(BUILD)/semollm.o $(foreach l,$(below_eval),$(call library,$(l)))
	@echo "  $(@:$(BUILD)/%=%)"; $(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  $(@:$(BUILD)/%=%)"; $(CC) $(ALL_CFLAGS) -c -o $@ $<

# -std=c11 turns contraction off in gcc; the kernels are written for fused multiply-add. Without AVX-512,
# gcc vectorises a choice between two floats only where comparing them need not trap.
$(BUILD)/kernels/%.o: ALL_CFLAGS += -ffp-contract=fast -fno-trapping-math

define layer_rules
$(call library,$(1)): $(call objects,$(1))
	@rm -f $$@
	@ar rcs $$@ $$^

$(BUILD)/tests/$(1)/%: $(BUILD)/tests/$(1)/%.o $(foreach l,$(below_$(1)),$(call library,$(l)))
	@echo "  $$(@:$(BUILD)/%=%)"; $$(CC) $$(ALL_CFLAGS) $$(LDFLAGS) -o $$@ $$^ $$(LIBS) -lcmocka
endef
$(foreach l,$(LAYERS),$(eval $(call layer_rules,$(l))))

# Programs that end-to-end scripts run: they make inputs that the program itself would never write.
HELPERS = $(BUILD)/tests/train/make_tiny $(BUILD)/tests/eval/bad_input_make

TESTS = $(patsubst %.c,$(BUILD)/%,$(wildcard $(foreach l,$(LAYERS),tests/$(l)/test_*.c)))

test-programs: $(TESTS) $(HELPERS)

unit: $(TESTS)
	tests/run.sh $(TESTS)

# Everything: unit tests and end-to-end scripts as built for use; unit tests and bad input under sanitizers.
test: deps
	$(MAKE) -j$(JOBS) all test-programs
	$(MAKE) unit e2e
	$(MAKE) asan

e2e: $(BUILD)/semollm $(HELPERS)
	tests/e2e/resume.sh $(BUILD)/semollm
	tests/e2e/ravdess.sh $(BUILD)/semollm

demo: deps
	$(MAKE) -j$(JOBS) all
	configs/tiny/demo.sh $(BUILD)/semollm $(BUILD)/demo

# Installs what is missing of PACKAGES, asking for sudo where needed.
deps:
	@missing=; for p in $(PACKAGES) $(EXTRA_PACKAGES); do \
	  dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing:$$missing"; \
	  sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive \
	    apt-get install -qy --no-install-recommends $$missing; fi

asan:
	$(MAKE) -j$(JOBS) BUILD=$(BUILD)-asan $(ASAN) all test-programs
	$(MAKE) BUILD=$(BUILD)-asan $(ASAN) unit
	tests/e2e/bad_input.sh $(BUILD)-asan/semollm

bench:
	tests/bench/peer.sh

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

lint:
	clang-format --dry-run -Werror $$(git ls-files '*.c' '*.h')

clean:
	rm -rf build build-*

install: all
	install -D $(BUILD)/semollm $(DESTDIR)$(PREFIX)/bin/semollm

.PHONY: all test unit e2e demo test-programs deps asan bench format lint clean install
.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
