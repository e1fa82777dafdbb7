# semollm: `make` builds build/semollm; `make demo` runs the main job; `make test` tests everything.

BUILD  ?= build
ifeq ($(origin CC),default)
CC = gcc
endif
CFLAGS ?= -O3 -march=native
PREFIX ?= /usr/local

# CUDA=toolkit builds the CUDA device with nvcc, CUDA=emu with the emulator of tests/emu in the GPU's place,
# CUDA=none the CPU device alone.
NVCC := $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA ?= $(if $(NVCC),toolkit,none)
CUDA_HOME ?= $(patsubst %/bin/,%,$(dir $(realpath $(NVCC))))
GENCODE ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a \
  -gencode arch=compute_80,code=compute_80

# MPI, the compiler wrapper of what starts several ranks; MPI=none builds without.
MPI ?= $(if $(LEAN),none,$(or $(shell command -v mpicc 2>/dev/null),none))
MPI_SHOW := $(if $(filter-out none,$(MPI)),$(shell $(MPI) -show))
MPI_FLAGS = $(if $(MPI_SHOW),-DSEMOLLM_MPI $(patsubst -I%,-isystem %,$(filter -I%,$(MPI_SHOW))))
MPI_LIBS = $(filter -L% -l% -Wl%,$(MPI_SHOW))

PACKAGES = build-essential pkg-config git libsndfile1-dev libsoxr-dev libebur128-dev libzstd-dev libarchive-dev \
  libxxhash-dev libjansson-dev libcyaml-dev libpcre2-dev libutf8proc-dev libkissfft-dev libdnnl-dev \
  libcurl4-openssl-dev ocl-icd-libopencl1 libopenmpi-dev openmpi-bin libcmocka-dev espeak-ng zstd

JOBS ?= $(shell nproc)
ASAN = CFLAGS="-O1 -g -march=native" \
  SANITIZE="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"

WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -I. $(WARNINGS) $(CFLAGS) -fno-math-errno -fopenmp $(CUDA_FLAGS) -MMD -MP $(SANITIZE)
LIBS = -lsndfile -lsoxr -lebur128 -lzstd -larchive -lxxhash -ljansson -lcyaml -lyaml -lpcre2-8 -lutf8proc \
  -lkissfft-float -ldnnl -lcurl $(CUDA_LIBS) $(MPI_LIBS) -lpthread -lm

CUDA_FLAGS_toolkit = -DSEMOLLM_CUDA -isystem $(CUDA_HOME)/include
CUDA_FLAGS_emu     = -DSEMOLLM_CUDA -DSEMOLLM_EMU
CUDA_LIBS_toolkit  = $(CUDA_HOME)/lib64/libcudart_static.a -ldl -lrt
CUDA_LIBS_emu      = -lstdc++ -rdynamic
# Last in the library, so that the linker takes from missing.c only what no other file has.
CUDA_MISSING = kernels/cuda/missing.c
CUDA_SOURCES_toolkit = $(filter-out $(CUDA_MISSING),$(wildcard kernels/cuda/*.c kernels/cuda/*.cu)) $(CUDA_MISSING)
CUDA_SOURCES_emu     = $(filter-out kernels/cuda/gemm.c,$(CUDA_SOURCES_toolkit)) $(wildcard tests/emu/*.cc)
CUDA_FLAGS = $(CUDA_FLAGS_$(CUDA))
CUDA_LIBS  = $(CUDA_LIBS_$(CUDA))
CUDA_WARNINGS = -Wall -Wextra -Wshadow -Wno-missing-field-initializers -Wno-unknown-pragmas -Werror

# LEAN=1 leaves out what wants the libraries for audio, text and YAML: what is left runs the models' steps on both
# devices, for machines with little more than CUDA and a C compiler (make gpu-check). Headers and libraries that such
# a machine lacks are taken from the folder CARRY, which `make carry` fills elsewhere.
CARRY = $(BUILD)-carry
LEAN_LIBS = -ljansson -lpcre2-8 -lxxhash
LEAN_WITHOUT = base/audio.c base/http.c base/yaml.c kernels/cpu/gemm.c model/tokenizer%.c model/unicode%.c model/chat.c \
  model/convert%.c model/pickle.c model/zip.c model/torch_file.c model/%command.c model/commands.c
FULL_WITHOUT = kernels/cpu/gemm_plain.c
MPI_WITHOUT = $(if $(MPI_SHOW),,kernels/comm_mpi.c)
ifdef LEAN
ALL_CFLAGS += -isystem $(CARRY)
LDFLAGS += -L$(CARRY) -Wl,-rpath,$(abspath $(CARRY))
LIBS = $(LEAN_LIBS) $(CUDA_LIBS) -lpthread -lm
endif

# Lowest layer first; a layer's tests link against it and everything below.
LAYERS = base kernels model data train eval
sources = $(filter-out $(if $(LEAN),$(LEAN_WITHOUT),$(FULL_WITHOUT)) $(MPI_WITHOUT),$(wildcard $(1)/*.c $(1)/cpu/*.c)) $(if $(filter kernels,$(1)),$(CUDA_SOURCES_$(CUDA)))
objects = $(addsuffix .o,$(addprefix $(BUILD)/,$(basename $(call sources,$(1)))))
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

ifeq ($(CUDA),emu)
# With CHECK=1 the kernels' every access is reported to tests/emu/check.cc; no thread sanitizer is linked.
CUDA_FLAGS += $(if $(CHECK),-DSEMOLLM_EMU_CHECK)
# -Wextra dislikes enum constants beside integers; registers filled only for columns there are look uninitialized.
KERNEL_FLAGS = -Wno-extra -Wno-uninitialized -Wno-maybe-uninitialized $(if $(CHECK),-fsanitize=thread)
EMU_CFLAGS = -std=c++17 -I. $(CUDA_WARNINGS) $(CFLAGS) -fno-exceptions $(CUDA_FLAGS) -MMD -MP $(SANITIZE)

$(BUILD)/%.o: %.cu
	@mkdir -p $(@D)
	@echo "  $(@:$(BUILD)/%=%)"; $(CXX) -x c++ $(EMU_CFLAGS) $(KERNEL_FLAGS) -c -o $@ $<

$(BUILD)/%.o: %.cc
	@mkdir -p $(@D)
	@echo "  $(@:$(BUILD)/%=%)"; $(CXX) $(EMU_CFLAGS) -c -o $@ $<
else
# What ptxas says of registers, shared memory and spills stays beside each object.
$(BUILD)/%.o: %.cu
	@mkdir -p $(@D)
	@echo "  $(@:$(BUILD)/%=%)"; $(NVCC) -std=c++17 -O3 -I. $(GENCODE) $(CUDA_FLAGS) -MMD -MP -Xptxas -v \
	  -Xcompiler "-Wall,-Wextra,-fPIC,-fno-threadsafe-statics,-fno-exceptions,-fno-rtti" \
	  -c -o $@ $< 2>$@.ptxas || { cat $@.ptxas; exit 1; }
endif

# What was built without MPI, or with another, is built anew.
COMM = $(BUILD)/kernels/comm.o $(BUILD)/kernels/comm_mpi.o
$(COMM): ALL_CFLAGS += $(MPI_FLAGS)
$(COMM): $(BUILD)/mpi
$(BUILD)/mpi: always
	@mkdir -p $(@D)
	@echo '$(MPI)' | cmp -s - $@ || echo '$(MPI)' >$@

# Features must round in the same steps as Praat, whatever a compiler would contract; the kernels are written for fused
# multiply-add. Without AVX-512, gcc vectorises a choice between two floats only where comparing them need not trap.
ALL_CFLAGS += -ffp-contract=off
$(BUILD)/kernels/%.o: ALL_CFLAGS += -ffp-contract=fast -fno-trapping-math

# What pages carry as it stands, as C strings, a line each; and the hash by which a page lets its own script run.
$(BUILD)/data/report.o: $(addprefix $(BUILD)/data/report.,css.inc js.inc js.sha256.inc)
$(BUILD)/data/report.o: ALL_CFLAGS += -I$(BUILD)
$(BUILD)/%.inc: %
	@mkdir -p $(@D)
	@sed 's/[\\"?]/\\&/g; s/.*/"&\\n",/' $< >$@
$(BUILD)/%.sha256.inc: %
	@mkdir -p $(@D)
	@printf '"%s"\n' "$$({ echo; cat $<; } | sha256sum | cut -c1-64 | tr a-f A-F | basenc -d --base16 | base64)" >$@

define layer_rules
$(call library,$(1)): $(call objects,$(1))
	@rm -f $$@
	@ar rcs $$@ $$^

$(BUILD)/tests/$(1)/%: $(BUILD)/tests/$(1)/%.o $(foreach l,$(below_$(1)),$(call library,$(l)))
	@echo "  $$(@:$(BUILD)/%=%)"; $$(CC) $$(ALL_CFLAGS) $$(LDFLAGS) -o $$@ $$^ $$(LIBS) -lcmocka
endef
$(foreach l,$(LAYERS),$(eval $(call layer_rules,$(l))))

# Kernels of the CUDA device beside the CPU device's.
CUDA_TESTS = $(if $(filter-out none,$(CUDA)),cuda)
$(BUILD)/tests/cuda/%: $(BUILD)/tests/cuda/%.o $(foreach l,$(below_kernels),$(call library,$(l)))
	@echo "  $(@:$(BUILD)/%=%)"; $(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

# The CUDA device's matrix products, built from the toolkit's headers, over a stand-in for cuBLASLt on the emulator.
CUBLASLT_H := $(if $(filter emu,$(CUDA)),$(wildcard $(CUDA_HOME)/include/cublasLt.h))
CUDA_TESTS += $(if $(CUBLASLT_H),cublaslt)
$(BUILD)/tests/cublaslt/fake.o: ALL_CFLAGS += -USEMOLLM_EMU -isystem $(CUDA_HOME)/include
$(BUILD)/tests/cublaslt/gemm.o: kernels/cuda/gemm.c
	@mkdir -p $(@D)
	@echo "  $(@:$(BUILD)/%=%)"; $(CC) $(ALL_CFLAGS) -USEMOLLM_EMU -isystem $(CUDA_HOME)/include -c -o $@ $<
$(BUILD)/tests/cublaslt/test_gemm: $(addprefix $(BUILD)/tests/cublaslt/,test_gemm.o gemm.o fake.o) \
  $(foreach l,$(below_kernels),$(call library,$(l)))
	@echo "  $(@:$(BUILD)/%=%)"; $(CC) $(ALL_CFLAGS) $(LDFLAGS) -rdynamic -o $@ $^ $(LIBS) -lcmocka

# A stand-in for NCCL on the emulator, opened at run time as NCCL is.
NCCL_FAKE = $(1)/tests/nccl/fake.so
$(call NCCL_FAKE,$(BUILD)): tests/nccl/fake.c
	@mkdir -p $(@D)
	@echo "  $(@:$(BUILD)/%=%)"; $(CC) $(ALL_CFLAGS) $(MPI_FLAGS) -fPIC -shared -o $@ $< $(MPI_LIBS)

# What gpu-check runs on a GPU.
GPU_PROGRAMS = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/gpu/*.c))
$(BUILD)/tests/gpu/%: $(BUILD)/tests/gpu/%.o $(foreach l,$(below_model),$(call library,$(l)))
	@echo "  $(@:$(BUILD)/%=%)"; $(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS)

# The emulator's own test, and the programs that count with it.
$(BUILD)/tests/emu/%: $(BUILD)/tests/emu/%.o $(foreach l,$(below_model),$(call library,$(l)))
	@echo "  $(@:$(BUILD)/%=%)"; $(CXX) $(CFLAGS) $(SANITIZE) -fopenmp $(LDFLAGS) -o $@ $^ $(LIBS)

# Every kernel on the emulator: as built for use under several schedules, with accesses checked, under sanitizers;
# and whole steps of training. Then faults made from the kernels' text, which the tests must catch.
EMU_PROGRAMS = $(patsubst %.c,$(1)/%,$(wildcard tests/cuda/test_*.c)) $(1)/tests/emu/test_emu
EMU_STEPS = $(patsubst %.c,$(1)/%,$(wildcard tests/model/test_decoder_cuda.c tests/train/test_devices.c))
EMU_RANKS = $(1)/semollm $(1)/tests/kernels/test_comm $(1)/tests/train/make_tiny $(if $(MPI_SHOW),$(call NCCL_FAKE,$(1)))
EMU_CHECK = CUDA=emu CHECK=1 CFLAGS="-O2 -g -march=native"

emu:
	$(MAKE) -j$(JOBS) BUILD=$(BUILD)-emu CUDA=emu $(call EMU_PROGRAMS,$(BUILD)-emu) $(call EMU_STEPS,$(BUILD)-emu) \
	  $(call EMU_RANKS,$(BUILD)-emu)
	$(MAKE) -j$(JOBS) BUILD=$(BUILD)-emu-check $(EMU_CHECK) $(call EMU_PROGRAMS,$(BUILD)-emu-check)
	$(MAKE) -j$(JOBS) BUILD=$(BUILD)-emu-asan CUDA=emu $(ASAN) $(call EMU_PROGRAMS,$(BUILD)-emu-asan)
	EMU_GUARD=1 tests/emu/run.sh warps $(BUILD)-emu/tests/cuda/test_device
	tests/emu/run.sh "warps-reversed shuffled:1" $(call EMU_PROGRAMS,$(BUILD)-emu)
	EMU_ARCH=80 tests/emu/run.sh reversed $(call EMU_PROGRAMS,$(BUILD)-emu)
	EMU_ARCH=89 tests/emu/run.sh forward $(call EMU_PROGRAMS,$(BUILD)-emu)
	tests/emu/run.sh warps $(call EMU_STEPS,$(BUILD)-emu)
	SEMOLLM_NCCL=$(abspath $(call NCCL_FAKE,$(BUILD)-emu)) tests/emu/run.sh warps $(BUILD)-emu/tests/kernels/test_comm
	SEMOLLM_NCCL=$(abspath $(call NCCL_FAKE,$(BUILD)-emu)) tests/e2e/ranks.sh $(BUILD)-emu/semollm cuda
	tests/emu/run.sh "warps shuffled:2" $(call EMU_PROGRAMS,$(BUILD)-emu-check)
	tests/emu/run.sh shuffled:3 $(call EMU_PROGRAMS,$(BUILD)-emu-asan)
	$(if $(NVCC),$(MAKE) -j$(JOBS) CUDA=toolkit emu-resources)

# What kernels move, issue and wait for, counted; fails where an operation got worse than in the committed table.
emu-count:
	$(MAKE) -j$(JOBS) BUILD=$(BUILD)-emu-check $(EMU_CHECK) $(BUILD)-emu-check/tests/emu/count
	$(BUILD)-emu-check/tests/emu/count tests/emu/COUNTS.md >$(BUILD)-emu-check/COUNTS.md
	cat $(BUILD)-emu-check/COUNTS.md

# Registers and occupancy as ptxas has them; fails where a kernel spills. Needs nvcc.
emu-resources: $(patsubst %.cu,$(BUILD)/%.o,$(wildcard kernels/cuda/*.cu))
	@tests/emu/resources.py tests/emu/COUNTS.md $(addsuffix .ptxas,$^)

SEED ?= 1
COUNT ?= 60
emu-mutants:
	$(MAKE) -j$(JOBS) BUILD=$(BUILD)-mutants CUDA=emu CFLAGS="-O1 -march=native" $(call EMU_PROGRAMS,$(BUILD)-mutants)
	$(MAKE) -j$(JOBS) BUILD=$(BUILD)-emu-check $(EMU_CHECK) $(call EMU_PROGRAMS,$(BUILD)-emu-check)
	@$(MAKE) -s CUDA=emu mutants-here

mutants-here:
	@LINK="$(CC) $(LDFLAGS) -fopenmp" LIBS="$(LIBS) -lcmocka" \
	  PLAIN_BUILD=$(BUILD)-mutants PLAIN_COMPILE="$(CXX) -x c++ $(EMU_CFLAGS) -O1 -march=native" \
	  CHECK_BUILD=$(BUILD)-emu-check \
	  CHECK_COMPILE="$(CXX) -x c++ $(EMU_CFLAGS) -O1 -g -march=native -DSEMOLLM_EMU_CHECK -fsanitize=thread" \
	  tests/emu/mutants.py $(SEED) $(COUNT) $(MUTATE)

# Programs that end-to-end scripts run: they make inputs that the program itself would never write.
HELPERS = $(BUILD)/tests/train/make_tiny $(BUILD)/tests/eval/bad_input_make

TESTS = $(patsubst %.c,$(BUILD)/%,$(wildcard $(foreach l,$(LAYERS) $(CUDA_TESTS),tests/$(l)/test_*.c)))

test-programs: $(TESTS) $(HELPERS)

unit: $(TESTS)
	tests/run.sh $(TESTS)

# Everything: unit tests and end-to-end scripts as built for use; unit tests and bad input under sanitizers.
test: deps
	$(MAKE) -j$(JOBS) all test-programs
	$(MAKE) unit e2e
	$(MAKE) asan

e2e: $(BUILD)/semollm $(HELPERS)
	tests/e2e/shards.sh $(BUILD)/semollm
	tests/e2e/resume.sh $(BUILD)/semollm
	tests/e2e/ravdess.sh $(BUILD)/semollm
	tests/e2e/report.sh $(BUILD)/semollm
	tests/e2e/ranks.sh $(BUILD)/semollm

# Everything that wants a GPU, in one call of at most 8 minutes; without one, the parts that the emulator can run.
OUT ?= $(BUILD)-gpu/out
gpu-check:
	tests/gpu/check.sh $(OUT) $(BUILD)-gpu $(CARRY)

# What gpu-check needs and a bare machine lacks, to be carried there beside the tree.
carry:
	@mkdir -p $(CARRY)
	cp /usr/include/jansson*.h /usr/include/pcre2.h /usr/include/xx*h*.h /usr/include/cmocka*.h $(CARRY)
	cp $(foreach l,jansson.a pcre2-8.a xxhash.a cmocka.so.0 cmocka.so,$(wildcard /usr/lib/*/lib$(l))) $(CARRY)

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
	$(MAKE) -j$(JOBS) BUILD=$(BUILD)-asan CUDA=none $(ASAN) all test-programs
	$(MAKE) BUILD=$(BUILD)-asan CUDA=none $(ASAN) unit
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
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/semollm/labels configs/labels/*.yaml
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/semollm/machines configs/machines/*.yaml
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/semollm/prompts configs/prompts/*.yaml

.PHONY: always emu emu-count emu-resources emu-mutants mutants-here gpu-check carry all test unit e2e demo test-programs deps asan bench format lint clean install
.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
