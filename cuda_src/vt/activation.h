// Activation functors and the backward of those that have a fused one. See math.h.
// Backward functors take the gradient g, then the input x or the output y.
#ifndef VT_ACTIVATION_H
#define VT_ACTIVATION_H

#include "vt/unary.h"

namespace VT_NS {

template <class A>
VT_HD A relu(A x) {
  return x < A(0) ? A(0) : x;
}
// The gradient of relu with threshold 0; a NaN input lets the gradient pass.
template <class A>
VT_HD A threshold_backward(A g, A x, A threshold) {
  return x <= threshold ? A(0) : g;
}

template <class A>
VT_HD A sigmoid(A x) {
  if constexpr (is_complex<A>) {
    return A(1) / (A(1) + VT_NS::exp(-x));
  } else {
    return vsigmoid(x);
  }
}
template <class A>
VT_HD A sigmoid_backward(A g, A y) {
  if constexpr (is_complex<A>) {
    return g * conj((A(1) - y) * y);
  } else {
    return g * (A(1) - y) * y;
  }
}
template <class A>
VT_HD A tanh_backward(A g, A y) {
  return g * conj(A(1) - y * y);
}

template <class A>
VT_HD A silu(A x) {
#ifdef __CUDA_ARCH__
  return x * sigmoid(x);  // a float's sigmoid needs no division
#else
  return x / (A(1) + VT_NS::exp(-x));
#endif
}
template <class A>
VT_HD A silu_backward(A g, A x) {
  A s = sigmoid(x);
  return g * (s * (A(1) + x * (A(1) - s)));
}

// x times the normal distribution function.
template <class A>
VT_HD A gelu_erf(A x) {
  return x * normal_cdf(x);
}
template <class A>
VT_HD A gelu_erf_backward(A g, A x) {
  A density, cdf = normal_cdf(x, &density);
  return g * (cdf + x * density);
}

// 0.5 * (1 + tanh(u)) is sigmoid(2u): one exponential, and nothing cancels.
template <class A>
VT_HD A gelu_tanh_gate(A x) {
  A u = A(1.5957691216057308) * (x + A(0.044715) * x * x * x);
  return vsigmoid(u);
}
template <class A>
VT_HD A gelu_tanh(A x) {
  return x * gelu_tanh_gate(x);
}
template <class A>
VT_HD A gelu_tanh_backward(A g, A x) {
  A s = gelu_tanh_gate(x);
  A du = A(1.5957691216057308) * (A(1) + A(3 * 0.044715) * x * x);
  return g * (s + x * (s * (A(1) - s)) * du);
}

// Of a sum that is never stored.
template <class A>
VT_HD A bias_gelu_erf(A x, A b) {
  return gelu_erf(x + b);
}
template <class A>
VT_HD A bias_gelu_erf_backward(A g, A x, A b) {
  return gelu_erf_backward(g, x + b);
}
template <class A>
VT_HD A bias_gelu_tanh(A x, A b) {
  return gelu_tanh(x + b);
}
template <class A>
VT_HD A bias_gelu_tanh_backward(A g, A x, A b) {
  return gelu_tanh_backward(g, x + b);
}
template <class A>
VT_HD A bias_silu(A x, A b) {
  return silu(x + b);
}
template <class A>
VT_HD A bias_silu_backward(A g, A x, A b) {
  return silu_backward(g, x + b);
}

}  // namespace VT_NS
#endif
