// The scalar functors of the pointwise operators, written once for the CPU loops and the CUDA loops:
// function templates over the compute type A. Half types compute in float, every other type in
// itself. Trailing arguments may be parameters of the operator (alpha, min, max).
//
// The results, also for NaN, infinities, signed zeros and integer extremes, are PyTorch's on the CPU.
#ifndef VT_MATH_H
#define VT_MATH_H

#include "vt/arithmetic.h"
#include "vt/activation.h"
#include "vt/compare.h"
#include "vt/unary.h"

#endif
