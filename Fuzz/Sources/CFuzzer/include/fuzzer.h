// libFuzzer's driver (https://llvm.org/docs/LibFuzzer.html), which `-sanitize=fuzzer` links.
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*input)(const uint8_t *data, size_t size));
