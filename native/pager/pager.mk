# The pager, the shim for QEMU and their tests. Included by native.mk, or by itself: make -f native/pager/pager.mk pager
PAGER_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
PRELOAD_DIR := $(patsubst %/pager,%/preload,$(PAGER_DIR))
NATIVE_OUT ?= build/native
PAGER_OUT := $(NATIVE_OUT)/tests/pager
PAGER_CFLAGS := -std=gnu17 -O2 -g -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla -fvisibility=hidden
PAGER_SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

PAGER_SOURCES := $(filter-out $(PAGER_DIR)/main.c,$(wildcard $(PAGER_DIR)/*.c))
PAGER_HEADERS := $(wildcard $(PAGER_DIR)/*.h)
PRELOAD_SOURCES := $(wildcard $(PRELOAD_DIR)/*.c)
PRELOAD_HEADERS := $(wildcard $(PRELOAD_DIR)/*.h)

# The part of libwrenn that shares the pager's files.
PAGES_AREAS := pages pages-target pages-seal pages-merge
PAGES_SOURCES := $(PAGES_AREAS:%=$(PAGER_DIR)/../%.c)
PAGES_HEADERS := $(wildcard $(PAGER_DIR)/../*.h)

PAGER_TEST_SUPPORT := $(wildcard $(PAGER_DIR)/tests/support/*.c)
PAGER_TEST_HEADERS := $(wildcard $(PAGER_DIR)/tests/support/*.h) $(PAGER_DIR)/../tests/run.h
PAGER_TEST_OBJECTS := $(patsubst $(PAGER_DIR)/%.c,$(PAGER_OUT)/objects/%.o,$(PAGER_SOURCES) $(PAGER_TEST_SUPPORT)) \
	$(PAGER_OUT)/objects/hand-over.o $(PAGES_AREAS:%=$(PAGER_OUT)/objects/libwrenn/%.o)
# A test whose name starts with root- needs a userfaultfd.
PAGER_TESTS := $(patsubst $(PAGER_DIR)/tests/%.c,$(PAGER_OUT)/%,$(wildcard $(PAGER_DIR)/tests/*.c))
PAGER_ROOT_TESTS := $(filter $(PAGER_OUT)/root-%,$(PAGER_TESTS))
PAGER_UNIT_TESTS := $(filter-out $(PAGER_ROOT_TESTS),$(PAGER_TESTS))

.PHONY: pager test-pager test-pager-host test-pager-vm bench-pager
pager: $(NATIVE_OUT)/pager $(NATIVE_OUT)/wrenn-preload.so

# Static: it outlives upgrades of the host's libraries.
$(NATIVE_OUT)/pager: $(PAGER_DIR)/main.c $(PAGER_SOURCES) $(PAGER_HEADERS)
	@mkdir -p $(@D)
	@gcc $(PAGER_CFLAGS) -static -o $@.new $(PAGER_DIR)/main.c $(PAGER_SOURCES)
	@mv $@.new $@

$(NATIVE_OUT)/wrenn-preload.so: $(PRELOAD_SOURCES) $(PRELOAD_HEADERS)
	@mkdir -p $(@D)
	@gcc $(PAGER_CFLAGS) -fPIC -shared -Wl,-z,defs -o $@.new $(PRELOAD_SOURCES)
	@mv $@.new $@

# Each test prints "ok" and a sentence for each thing it shows, and stops at the first that is not so.
test-pager: $(PAGER_UNIT_TESTS)
	@for test in $(PAGER_UNIT_TESTS); do "$$test" || exit 1; done

test-pager-host: $(PAGER_ROOT_TESTS) $(NATIVE_OUT)/pager
	@for test in $(PAGER_ROOT_TESTS); do WRENN_PAGER=$(NATIVE_OUT)/pager "$$test" || exit 1; done

# Boots a guest under QEMU, so it needs a guest kernel beside root.
PAGER_GUEST_KERNEL ?= $(lastword $(sort $(wildcard build/kernel/vmlinux-*)))
test-pager-vm: $(PAGER_OUT)/vm-restore $(PAGER_OUT)/tick-guest pager
	@test -n "$(PAGER_GUEST_KERNEL)" || { echo "no guest kernel: run make guest" >&2; exit 1; }
	@WRENN_PAGER=$(NATIVE_OUT)/pager WRENN_PRELOAD=$(abspath $(NATIVE_OUT)/wrenn-preload.so) \
		$< $(PAGER_GUEST_KERNEL) $(PAGER_OUT)/tick-guest

$(PAGER_OUT)/tick-guest: $(PRELOAD_DIR)/tests/tick-guest.c
	@mkdir -p $(@D)
	@gcc $(PAGER_CFLAGS) -static -s -o $@ $<

# Not sanitized: its children are, or are programs of their own, and QEMU would inherit the settings.
$(PAGER_OUT)/vm-restore: $(PRELOAD_DIR)/tests/vm-restore.c $(PRELOAD_DIR)/tests/vm.c $(PRELOAD_DIR)/tests/vm.h \
		$(PAGER_SOURCES) $(PAGER_HEADERS) $(PAGES_SOURCES) $(PAGES_HEADERS) $(PAGER_DIR)/../tsc.c
	@mkdir -p $(@D)
	@gcc $(PAGER_CFLAGS) -I$(PAGER_DIR) -I$(PAGER_DIR)/.. -I$(PAGER_DIR)/../tests -o $@ $(filter %.c,$^)

bench-pager: $(PAGER_OUT)/bench
	@$<

$(PAGER_OUT)/objects/%.o: $(PAGER_DIR)/%.c $(PAGER_HEADERS) $(PAGER_TEST_HEADERS)
	@mkdir -p $(@D)
	@gcc $(PAGER_CFLAGS) $(PAGER_SANITIZE) -I$(PAGER_DIR) -I$(PAGER_DIR)/.. -I$(PRELOAD_DIR) -c -o $@ $<

$(PAGER_OUT)/objects/hand-over.o: $(PRELOAD_DIR)/hand-over.c $(PRELOAD_HEADERS)
	@mkdir -p $(@D)
	@gcc $(PAGER_CFLAGS) $(PAGER_SANITIZE) -c -o $@ $<

$(PAGER_OUT)/objects/libwrenn/%.o: $(PAGER_DIR)/../%.c $(PAGES_HEADERS) $(PAGER_HEADERS)
	@mkdir -p $(@D)
	@gcc $(PAGER_CFLAGS) $(PAGER_SANITIZE) -c -o $@ $<

$(PAGER_TESTS): $(PAGER_OUT)/%: $(PAGER_DIR)/tests/%.c $(PAGER_TEST_OBJECTS) $(PAGER_TEST_HEADERS)
	@gcc $(PAGER_CFLAGS) $(PAGER_SANITIZE) -I$(PAGER_DIR) -I$(PAGER_DIR)/tests -I$(PAGER_DIR)/../tests \
		-I$(PAGER_DIR)/.. -I$(PRELOAD_DIR) -pthread -o $@ $< $(PAGER_TEST_OBJECTS)

# Without sanitizers: it measures.
$(PAGER_OUT)/bench: $(PAGER_DIR)/bench/bench.c $(PAGER_SOURCES) $(PAGER_HEADERS) $(PAGES_SOURCES) $(PAGES_HEADERS) \
		$(PAGER_TEST_SUPPORT) $(PAGER_TEST_HEADERS) $(PRELOAD_DIR)/hand-over.c
	@mkdir -p $(@D)
	@gcc $(PAGER_CFLAGS) -I$(PAGER_DIR) -I$(PAGER_DIR)/.. -I$(PAGER_DIR)/tests -I$(PRELOAD_DIR) -o $@ $(filter %.c,$^)
