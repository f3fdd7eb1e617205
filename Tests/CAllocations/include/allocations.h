/// Counts what watched threads take from the heap.
#ifndef ALLOCATIONS_H
#define ALLOCATIONS_H

#include <stddef.h>

/// Begins (1) or ends (0) to count the allocations of the calling thread.
void allocations_watch(int on);

/// Allocations of watched threads, without those that oneDNN and OpenBLAS make for themselves.
size_t allocations_own(void);
/// Those that they make.
size_t allocations_of_libraries(void);

#endif
