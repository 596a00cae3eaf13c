# The pager, the shim for QEMU, their tests and those of the formats. Included by native.mk.
PAGER_DIR := $(NATIVE_DIR)/pager
PRELOAD_DIR := $(NATIVE_DIR)/preload
PAGER_OUT := $(NATIVE_OUT)/tests/pager

PAGES_SOURCES := $(wildcard $(NATIVE_DIR)/pages/*.c)
# Of them the pager reads only.
PAGES_READERS := failure crc32c layer memory-index memory page-list
PAGER_SOURCES := $(filter-out $(PAGER_DIR)/main.c,$(wildcard $(PAGER_DIR)/*.c))
PAGER_HEADERS := $(wildcard $(PAGER_DIR)/*.h $(NATIVE_DIR)/pages/*.h)
PRELOAD_SOURCES := $(wildcard $(PRELOAD_DIR)/*.c)
PRELOAD_HEADERS := $(wildcard $(PRELOAD_DIR)/*.h)

# A test whose name starts with root- needs a userfaultfd.
PAGER_TEST_SOURCES := $(wildcard $(NATIVE_DIR)/pages/tests/*.c $(PAGER_DIR)/tests/*.c)
PAGER_TESTS := $(PAGER_TEST_SOURCES:$(NATIVE_DIR)/%.c=$(NATIVE_OUT)/tests/%)
PAGER_ROOT_TESTS := $(foreach test,$(PAGER_TESTS),$(if $(findstring /root-,$(test)),$(test)))
PAGER_UNIT_TESTS := $(filter-out $(PAGER_ROOT_TESTS),$(PAGER_TESTS))

.PHONY: pager test-pager test-pager-host test-pager-vm bench-pager
pager: $(NATIVE_OUT)/pager $(NATIVE_OUT)/wrenn-preload.so

# Static: it outlives upgrades of the host's libraries.
$(NATIVE_OUT)/pager: $(PAGER_DIR)/main.c $(PAGER_SOURCES) $(PAGES_READERS:%=$(NATIVE_DIR)/pages/%.c) $(PAGER_HEADERS)
	@mkdir -p $(@D)
	@$(NATIVE_CC) $(NATIVE_CFLAGS) -static -o $@.new $(filter %.c,$^)
	@mv $@.new $@

$(NATIVE_OUT)/wrenn-preload.so: $(PRELOAD_SOURCES) $(PRELOAD_HEADERS)
	@mkdir -p $(@D)
	@$(NATIVE_CC) $(NATIVE_CFLAGS) -fPIC -shared -Wl,-z,defs -o $@.new $(PRELOAD_SOURCES)
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
	@$(NATIVE_CC) $(NATIVE_CFLAGS) -static -s -o $@ $<

# Not sanitized: its children are, or are programs of their own, and QEMU would inherit the settings.
$(PAGER_OUT)/vm-restore: $(PRELOAD_DIR)/tests/vm-restore.c $(PRELOAD_DIR)/tests/vm.c $(PRELOAD_DIR)/tests/vm.h \
		$(PAGES_SOURCES) $(NATIVE_DIR)/tsc.c $(LIBWRENN_HEADERS) $(NATIVE_TEST_HEADERS)
	@mkdir -p $(@D)
	@$(NATIVE_CC) $(NATIVE_CFLAGS) -o $@ $(filter %.c,$^)

bench-pager: $(PAGER_OUT)/bench
	@$<

# Without sanitizers: it measures.
$(PAGER_OUT)/bench: $(PAGER_DIR)/bench/bench.c $(PAGER_SOURCES) $(PAGES_SOURCES) $(PRELOAD_DIR)/hand-over.c \
		$(wildcard $(NATIVE_DIR)/pages/tests/support/*.c $(PAGER_DIR)/tests/support/*.c) \
		$(PAGER_HEADERS) $(LIBWRENN_HEADERS) $(NATIVE_TEST_HEADERS)
	@mkdir -p $(@D)
	@$(NATIVE_CC) $(NATIVE_CFLAGS) -o $@ $(filter %.c,$^)
