# The keeper and its tests. Included by the Makefile, or run by itself: make -f native/keeper/keeper.mk keeper
KEEPER_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
NATIVE_OUT ?= build/native
KEEPER_CFLAGS := -std=gnu17 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Werror -Wshadow -Wconversion -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla -fvisibility=hidden
KEEPER_SANITIZE := -fsanitize=address,undefined -fno-omit-frame-pointer
KEEPER_AREAS := clock options log record jail jail-root start pager supervise
KEEPER_SOURCES := $(KEEPER_AREAS:%=$(KEEPER_DIR)/%.c)
KEEPER_HEADERS := $(KEEPER_DIR)/keeper.h

.PHONY: keeper test-keeper test-keeper-host
keeper: $(NATIVE_OUT)/keeper $(NATIVE_OUT)/accel-probe.bin

# Static: it must not fail because the host's libraries were upgraded under it.
$(NATIVE_OUT)/keeper: $(KEEPER_DIR)/main.c $(KEEPER_SOURCES) $(KEEPER_HEADERS)
	@mkdir -p $(@D)
	@gcc $(KEEPER_CFLAGS) -static -o $@.tmp $(KEEPER_DIR)/main.c $(KEEPER_SOURCES)
	@mv $@.tmp $@

# A flat image, no program: the guest that shows whether an accelerator works.
$(NATIVE_OUT)/accel-probe.bin: $(KEEPER_DIR)/accel-probe.S
	@mkdir -p $(@D)
	@gcc -c -o $@.o $<
	@objcopy -O binary -j .text $@.o $@.tmp
	@rm $@.o
	@mv $@.tmp $@

KEEPER_TESTS := log options record

# Each test prints "ok" and a sentence for each thing it shows, and stops at the first that is not so.
$(NATIVE_OUT)/tests/keeper-%: $(KEEPER_DIR)/tests/%.c $(KEEPER_SOURCES) $(KEEPER_HEADERS)
	@mkdir -p $(@D)
	@gcc $(KEEPER_CFLAGS) $(KEEPER_SANITIZE) -o $@ $< $(KEEPER_SOURCES)

# The keeper itself under sanitizers, for its test as a program.
$(NATIVE_OUT)/tests/keeper: $(KEEPER_DIR)/main.c $(KEEPER_SOURCES) $(KEEPER_HEADERS)
	@mkdir -p $(@D)
	@gcc $(KEEPER_CFLAGS) $(KEEPER_SANITIZE) -o $@ $(KEEPER_DIR)/main.c $(KEEPER_SOURCES)

test-keeper: $(KEEPER_TESTS:%=$(NATIVE_OUT)/tests/keeper-%)
	@for test in $^; do "$$test" || exit 1; done

# Needs root.
test-keeper-host: $(NATIVE_OUT)/tests/keeper-host-keeper $(NATIVE_OUT)/tests/keeper-host-pager $(NATIVE_OUT)/tests/keeper
	@$(NATIVE_OUT)/tests/keeper-host-keeper $(NATIVE_OUT)/tests/keeper
	@$(NATIVE_OUT)/tests/keeper-host-pager $(NATIVE_OUT)/tests/keeper
