#include "vibetensor/cuda/driver.h"

namespace vt_cuda {

Driver driver;

const char *const driver_names[kNumDriverFunctions] = {
#define VT_NAME(name) #name,
    VT_CUDA_DRIVER_FUNCTIONS(VT_NAME)
#undef VT_NAME
};

static_assert(sizeof(Driver) == (kNumDriverFunctions + 3) * sizeof(void *),
              "driver_slots() takes the table for an array of pointers");

}  // namespace vt_cuda
