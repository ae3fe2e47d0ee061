/* The CPU thread pool: our own, because OpenMP's hangs in a forked child. */
#ifndef VT_PARALLEL_H
#define VT_PARALLEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*vt_task)(int64_t begin, int64_t end, void *arg);

/* Calls task(begin, end, arg) over a partition of [0, n) into ranges of at least `grain`; the caller
 * takes part. Nested calls, calls while another thread uses the pool, and small n run in place. */
void vt_parallel_for(int64_t n, int64_t grain, vt_task task, void *arg);
void vt_set_num_threads(int n);
int vt_get_num_threads(void);

#ifdef __cplusplus
}

namespace vt_parallel {
/* vt_parallel_for over a lambda (begin, end). */
template <class F>
inline void parallel_for(int64_t n, int64_t grain, const F &f) {
  if (n <= 0) return;
  if (n <= grain) {
    f(int64_t(0), n);
    return;
  }
  vt_parallel_for(
      n, grain, [](int64_t b, int64_t e, void *arg) { (*static_cast<const F *>(arg))(b, e); },
      const_cast<void *>(static_cast<const void *>(&f)));
}
}  // namespace vt_parallel
#endif
#endif
