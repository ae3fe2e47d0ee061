// Chooses the instruction set of the CPU kernels and fills the tables.
#include <stdlib.h>
#include <string.h>

#include "vibetensor/core/state.h"

#define VT_DECLARE(ns)     \
  namespace ns {           \
  void register_kernels(); \
  void register_casts();   \
  }
VT_DECLARE(vt_baseline)
#ifdef VT_HAVE_V3
VT_DECLARE(vt_v3)
#endif
#ifdef VT_HAVE_V4
VT_DECLARE(vt_v4)
#endif
#undef VT_DECLARE

namespace {

struct Level {
  const char *name;
  bool (*supported)();
  void (*register_kernels)();
  void (*register_casts)();
};

#ifdef VT_HAVE_V3
bool has_v3() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt") &&
         __builtin_cpu_supports("movbe");
}
#endif
#ifdef VT_HAVE_V4
bool has_v4() {
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
#endif

// Lowest first; each level needs those below it.
const Level levels[] = {
    {"baseline", [] { return true; }, vt_baseline::register_kernels, vt_baseline::register_casts},
#ifdef VT_HAVE_V3
    {"x86-64-v3", has_v3, vt_v3::register_kernels, vt_v3::register_casts},
#endif
#ifdef VT_HAVE_V4
    {"x86-64-v4", has_v4, vt_v4::register_kernels, vt_v4::register_casts},
#endif
};

const char *chosen = "";

}  // namespace

void vt_cpu_register(void) {
  __builtin_cpu_init();
  const char *limit = getenv("VIBETENSOR_CPU_CAPABILITY");
  for (const Level &level : levels) {
    if (!level.supported()) break;
    // Over what the level below registered, since a level need not have every kernel.
    level.register_kernels();
    level.register_casts();
    chosen = level.name;
    if (limit != nullptr && strcmp(limit, level.name) == 0) break;
  }
}

const char *vt_cpu_capability(void) { return chosen; }
