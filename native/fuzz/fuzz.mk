# Fuzzing of the parsers in C, with Debian's clang. Included by native.mk.
FUZZ_DIR := $(NATIVE_DIR)/fuzz
FUZZ_OUT := $(NATIVE_OUT)/fuzz
FUZZ_NAMES := $(filter-out seeds,$(patsubst $(FUZZ_DIR)/%.c,%,$(wildcard $(FUZZ_DIR)/*.c)))
FUZZ_PROGRAMS := $(FUZZ_NAMES:%=$(FUZZ_OUT)/%)
# Of each target, two at a time: in a soak they take an hour together.
FUZZ_SECONDS ?= $(if $(WRENN_SOAK),$(shell echo $$((7200 / $(words $(FUZZ_NAMES))))),1)
# Of signs gcc and clang do not say the same; the code is gcc's.
FUZZ_CFLAGS := $(NATIVE_CFLAGS) -Wno-sign-conversion -Wno-gnu-variable-sized-type-not-at-end -D_GNU_SOURCE= \
	-fno-omit-frame-pointer -fno-sanitize-recover=undefined

FUZZED := $(PAGES_SOURCES) $(addprefix $(NATIVE_DIR)/,network/rt-answer.c storage/dm-request.c descriptor-send.c \
	pager/clock.c pager/options.c pager/regions.c pager/regions-receive.c)
FUZZED_OBJECTS := $(FUZZED:$(NATIVE_DIR)/%.c=$(FUZZ_OUT)/objects/%.o)

.PHONY: fuzz
fuzz: $(FUZZ_PROGRAMS)
	@printf '%s\n' $(FUZZ_NAMES) | xargs -P 2 -I {} $(FUZZ_DIR)/run.sh $(FUZZ_OUT) {} $(FUZZ_SECONDS)

$(FUZZ_OUT)/objects/%.o: $(NATIVE_DIR)/%.c $(LIBWRENN_HEADERS) $(PAGER_HEADERS)
	@mkdir -p $(@D)
	@clang $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link,address,undefined -c -o $@ $<

$(FUZZ_OUT)/fuzzed.a: $(FUZZED_OBJECTS)
	@rm -f $@
	@ar rcsT $@ $^

# Programs of which a target includes the source, and what is linked with one target only.
FUZZ_INCLUDED := $(NATIVE_DIR)/guest/watch.c $(NATIVE_DIR)/guest/renew.c
$(FUZZ_OUT)/watch: $(NATIVE_DIR)/guest/watched.c
$(FUZZ_OUT)/renew: $(NATIVE_DIR)/guest/message.c
$(FUZZ_OUT)/cmdline: rootfs/init/cmdline.c rootfs/init/cmdline.h
$(FUZZ_OUT)/keeper-options: $(KEEPER_SOURCES)

$(FUZZ_PROGRAMS): $(FUZZ_OUT)/%: $(FUZZ_DIR)/%.c $(FUZZ_DIR)/seeds.c $(FUZZ_DIR)/fuzz.h $(FUZZ_OUT)/fuzzed.a \
		$(FUZZ_INCLUDED) $(LIBWRENN_HEADERS) $(PAGER_HEADERS)
	@clang $(FUZZ_CFLAGS) -fsanitize=fuzzer,address,undefined -o $@ \
		$(filter-out $(FUZZ_INCLUDED),$(filter %.c,$^)) $(filter %.a,$^)
