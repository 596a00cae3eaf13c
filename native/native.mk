# libwrenn.so, the programs in C and their tests. Included by the Makefile, or by itself: make -f native/native.mk
NATIVE_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
NATIVE_OUT ?= build/native
NATIVE_CC ?= gcc
NATIVE_CFLAGS := -std=gnu17 -O2 -g -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla -fvisibility=hidden -I$(NATIVE_DIR)
NATIVE_SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer

LIBWRENN_FOLDERS := $(NATIVE_DIR) $(NATIVE_DIR)/network $(NATIVE_DIR)/storage $(NATIVE_DIR)/pages
LIBWRENN_SOURCES := $(wildcard $(LIBWRENN_FOLDERS:%=%/*.c))
LIBWRENN_HEADERS := $(wildcard $(LIBWRENN_FOLDERS:%=%/*.h))
NATIVE_TEST_HEADERS := $(wildcard $(NATIVE_DIR)/tests/*.h $(NATIVE_DIR)/*/tests/support/*.h)

include $(NATIVE_DIR)/keeper/keeper.mk
include $(NATIVE_DIR)/pager/pager.mk

# A test whose name starts with root- makes kernel objects.
NATIVE_TEST_SOURCES := $(wildcard $(NATIVE_DIR)/network/tests/*.c $(NATIVE_DIR)/storage/tests/*.c)
NATIVE_ALL_TESTS := $(NATIVE_TEST_SOURCES:$(NATIVE_DIR)/%.c=$(NATIVE_OUT)/tests/%)
NATIVE_ROOT_TESTS := $(foreach test,$(NATIVE_ALL_TESTS),$(if $(findstring /root-,$(test)),$(test)))
NATIVE_UNIT_TESTS := $(filter-out $(NATIVE_ROOT_TESTS),$(NATIVE_ALL_TESTS))

include $(NATIVE_DIR)/fuzz/fuzz.mk

.PHONY: native native-test native-test-root
native: $(NATIVE_OUT)/libwrenn.so $(NATIVE_OUT)/tests/tap-relay $(NATIVE_OUT)/tests/stepped-clock.so keeper pager
	@:

# Each test prints "ok" and a sentence for each thing it shows, and stops at the first that is not so.
native-test: $(NATIVE_UNIT_TESTS) test-keeper test-pager fuzz
	@for test in $(NATIVE_UNIT_TESTS); do "$$test" || exit 1; done

native-test-root: $(NATIVE_ROOT_TESTS) test-keeper-host test-pager-host test-pager-vm
	@for test in $(NATIVE_ROOT_TESTS); do "$$test" || exit 1; done

# Written aside and renamed: an agent that runs has the old one mapped.
$(NATIVE_OUT)/libwrenn.so: $(LIBWRENN_SOURCES) $(LIBWRENN_HEADERS)
	@mkdir -p $(@D)
	@$(NATIVE_CC) $(NATIVE_CFLAGS) -fPIC -shared -pthread -Wl,-z,defs -o $@.new $(LIBWRENN_SOURCES) -lnftables
	@mv $@.new $@

# What tests are linked with, under sanitizers: of an archive a program takes what it uses.
NATIVE_TESTED := $(LIBWRENN_SOURCES) $(PAGER_SOURCES) $(PRELOAD_DIR)/hand-over.c \
	$(wildcard $(NATIVE_DIR)/*/tests/support/*.c)
NATIVE_TESTED := $(filter-out %/tap-relay.c,$(NATIVE_TESTED))
NATIVE_TESTED_OBJECTS := $(NATIVE_TESTED:$(NATIVE_DIR)/%.c=$(NATIVE_OUT)/tests/objects/%.o)

$(NATIVE_OUT)/tests/objects/%.o: $(NATIVE_DIR)/%.c $(LIBWRENN_HEADERS) $(PAGER_HEADERS) $(NATIVE_TEST_HEADERS)
	@mkdir -p $(@D)
	@$(NATIVE_CC) $(NATIVE_CFLAGS) $(NATIVE_SANITIZE) -c -o $@ $<

# Thin: two objects may have one name in different folders.
$(NATIVE_OUT)/tests/tested.a: $(NATIVE_TESTED_OBJECTS)
	@rm -f $@
	@ar rcsT $@ $^

$(NATIVE_ALL_TESTS) $(PAGER_TESTS): $(NATIVE_OUT)/tests/%: $(NATIVE_DIR)/%.c $(NATIVE_OUT)/tests/tested.a
	@mkdir -p $(@D)
	@$(NATIVE_CC) $(NATIVE_CFLAGS) $(NATIVE_SANITIZE) -pthread -o $@ $^ -lnftables

$(NATIVE_OUT)/tests/stepped-clock.so: $(NATIVE_DIR)/tests/stepped-clock.c
	@mkdir -p $(@D)
	@$(NATIVE_CC) $(NATIVE_CFLAGS) -fPIC -shared -o $@ $<

$(NATIVE_OUT)/tests/tap-relay: $(NATIVE_DIR)/network/tests/support/tap-relay.c
	@mkdir -p $(@D)
	@$(NATIVE_CC) $(NATIVE_CFLAGS) -o $@ $<
