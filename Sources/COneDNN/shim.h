#include <oneapi/dnnl/dnnl.h>

/// Debian builds oneDNN on libgomp; each of our own threads tells its runtime to stay single-threaded.
void omp_set_num_threads(int count);
int omp_get_max_threads(void);
