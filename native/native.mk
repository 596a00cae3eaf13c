# libwrenn.so, the programs in C and their tests. Included by the Makefile, or by itself: make -f native/native.mk
NATIVE_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
NATIVE_OUT ?= build/native
NATIVE_CC ?= gcc
NATIVE_CFLAGS := -std=gnu17 -O2 -g -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla -fvisibility=hidden
NATIVE_SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

LIBWRENN_AREAS := in-netns netns rtnetlink link tap sysctl nft file descriptor-send loop dm-request dm mount tsc \
	pages pages-target pages-seal pages-merge pages-check pager/failure pager/crc32c pager/memory-index pager/memory-index-write pager/layer \
	pager/layer-write pager/memory pager/page-list
LIBWRENN_SOURCES := $(LIBWRENN_AREAS:%=$(NATIVE_DIR)/%.c)
LIBWRENN_HEADERS := $(wildcard $(NATIVE_DIR)/*.h $(NATIVE_DIR)/pager/*.h)
LIBWRENN_TEST_OBJECTS := $(LIBWRENN_AREAS:%=$(NATIVE_OUT)/tests/objects/%.o)

# A test whose name starts with root- makes kernel objects.
NATIVE_ALL_TESTS := $(patsubst $(NATIVE_DIR)/tests/%.c,$(NATIVE_OUT)/tests/%,$(wildcard $(NATIVE_DIR)/tests/*.c))
NATIVE_ROOT_TESTS := $(filter $(NATIVE_OUT)/tests/root-%,$(NATIVE_ALL_TESTS))
NATIVE_UNIT_TESTS := $(filter-out $(NATIVE_ROOT_TESTS),$(NATIVE_ALL_TESTS))

include $(NATIVE_DIR)/keeper/keeper.mk
include $(NATIVE_DIR)/pager/pager.mk

.PHONY: native native-test native-test-root
native: $(NATIVE_OUT)/libwrenn.so $(NATIVE_OUT)/tests/tap-relay keeper pager

# Each test prints "ok" and a sentence for each thing it shows, and stops at the first that is not so.
native-test: $(NATIVE_UNIT_TESTS) test-keeper test-pager
	@for test in $(NATIVE_UNIT_TESTS); do "$$test" || exit 1; done

native-test-root: $(NATIVE_ROOT_TESTS) test-keeper-host test-pager-host test-pager-vm
	@for test in $(NATIVE_ROOT_TESTS); do "$$test" || exit 1; done

# Written aside and renamed: an agent that runs has the old one mapped.
$(NATIVE_OUT)/libwrenn.so: $(LIBWRENN_SOURCES) $(LIBWRENN_HEADERS)
	@mkdir -p $(@D)
	@$(NATIVE_CC) $(NATIVE_CFLAGS) -fPIC -shared -pthread -Wl,-z,defs -o $@.new $(LIBWRENN_SOURCES) -lnftables
	@mv $@.new $@

$(NATIVE_OUT)/tests/objects/%.o: $(NATIVE_DIR)/%.c $(LIBWRENN_HEADERS)
	@mkdir -p $(@D)
	@$(NATIVE_CC) $(NATIVE_CFLAGS) $(NATIVE_SANITIZE) -c -o $@ $<

$(NATIVE_ALL_TESTS): $(NATIVE_OUT)/tests/%: $(NATIVE_DIR)/tests/%.c $(NATIVE_DIR)/tests/run.h $(LIBWRENN_TEST_OBJECTS)
	@$(NATIVE_CC) $(NATIVE_CFLAGS) $(NATIVE_SANITIZE) -I$(NATIVE_DIR) -pthread -o $@ $< $(LIBWRENN_TEST_OBJECTS) -lnftables

$(NATIVE_OUT)/tests/tap-relay: $(NATIVE_DIR)/tests/support/tap-relay.c
	@mkdir -p $(@D)
	@$(NATIVE_CC) $(NATIVE_CFLAGS) -o $@ $<
