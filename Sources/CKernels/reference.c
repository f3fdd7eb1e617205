#include "lora_kernels.h"
