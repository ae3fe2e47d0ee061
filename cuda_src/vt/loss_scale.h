// How a loss scale changes from step to step, for both backends.
#ifndef VT_LOSS_SCALE_H
#define VT_LOSS_SCALE_H

#include "vt/config.h"

namespace VT_NS {

// `tracker` counts the steps since the last change. A scale never grows beyond the largest float.
VT_HD void update_scale(float *scale, int32_t *tracker, float found_inf, double growth,
                        double backoff, int64_t interval) {
  if (found_inf != 0.0f) {
    *scale = static_cast<float>(*scale * backoff);
    *tracker = 0;
  } else if (*tracker + 1 != interval) {
    *tracker += 1;
  } else {
    const float grown = static_cast<float>(*scale * growth);
    if (grown <= 3.402823466e+38f) *scale = grown;
    *tracker = 0;
  }
}

}  // namespace VT_NS
#endif
