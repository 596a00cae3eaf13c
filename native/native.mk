# libwrenn.so and its tests. Included by the Makefile above, or run by itself: make -f native/native.mk
NATIVE_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
NATIVE_OUT ?= build/native
NATIVE_CC ?= gcc
NATIVE_CFLAGS := -std=gnu17 -O2 -g -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla -fvisibility=hidden
NATIVE_SANITIZE := -fsanitize=address,undefined -fno-omit-frame-pointer
LIBWRENN_AREAS := in-netns netns rtnetlink link tap sysctl nft file loop dm-request dm mount tsc
LIBWRENN_SOURCES := $(LIBWRENN_AREAS:%=$(NATIVE_DIR)/%.c)
LIBWRENN_HEADERS := $(wildcard $(NATIVE_DIR)/*.h)
# A test whose name starts with host- needs root.
LIBWRENN_TESTS := $(patsubst $(NATIVE_DIR)/tests/%.c,%,$(wildcard $(NATIVE_DIR)/tests/*.c))
LIBWRENN_UNIT_TESTS := $(filter-out host-%,$(LIBWRENN_TESTS))
LIBWRENN_HOST_TESTS := $(filter host-%,$(LIBWRENN_TESTS))

.PHONY: libwrenn test-libwrenn test-libwrenn-host
libwrenn: $(NATIVE_OUT)/libwrenn.so

$(NATIVE_OUT)/libwrenn.so: $(LIBWRENN_SOURCES) $(LIBWRENN_HEADERS)
	@mkdir -p $(@D)
	$(NATIVE_CC) $(NATIVE_CFLAGS) -fPIC -shared -pthread -Wl,-z,defs -o $@.tmp $(LIBWRENN_SOURCES) -lnftables
	@mv $@.tmp $@

$(NATIVE_OUT)/tests/%: $(NATIVE_DIR)/tests/%.c $(LIBWRENN_SOURCES) $(LIBWRENN_HEADERS)
	@mkdir -p $(@D)
	$(NATIVE_CC) $(NATIVE_CFLAGS) $(NATIVE_SANITIZE) -I$(NATIVE_DIR) -pthread -o $@ $< $(LIBWRENN_SOURCES) -lnftables

test-libwrenn: $(LIBWRENN_UNIT_TESTS:%=$(NATIVE_OUT)/tests/%)
	@set -e; for t in $^; do echo "$$t"; "$$t"; done

test-libwrenn-host: $(LIBWRENN_HOST_TESTS:%=$(NATIVE_OUT)/tests/%)
	@set -e; for t in $^; do echo "$$t"; "$$t"; done
