/* The text of a specialisation: a line per argument, constexpr and option (vibetensor/kernels/_spec.py
 * reads it). */
#include <stdio.h>

#include "vibetensor/cuda/triton_kernel.h"

namespace vt_cuda {

const char *triton_dtype(int dtype) {
  switch (dtype) {
    case VT_BOOL:
      return "i1";
    case VT_U8:
      return "u8";
    case VT_I8:
      return "i8";
    case VT_I16:
      return "i16";
    case VT_I32:
      return "i32";
    case VT_I64:
      return "i64";
    case VT_F16:
      return "fp16";
    case VT_BF16:
      return "bf16";
    case VT_F32:
      return "fp32";
    case VT_F64:
      return "fp64";
    default:
      return nullptr;
  }
}

TritonSpec &TritonSpec::arg(const char *name, const char *type, bool divisible) {
  text_ += std::string(name) + ": " + type + (divisible ? " 16\n" : "\n");
  return *this;
}

TritonSpec &TritonSpec::pointer(const char *name, int dtype, bool divisible) {
  return arg(name, (std::string("*") + triton_dtype(dtype)).c_str(), divisible);
}

TritonSpec &TritonSpec::descriptor(const char *name, int dtype, std::initializer_list<int> block) {
  std::string type = std::string("tensordesc<") + triton_dtype(dtype) + "[";
  for (int n : block) type += (type.back() == '[' ? "" : ", ") + std::to_string(n);
  return arg(name, (type + "]>").c_str());
}

TritonSpec &TritonSpec::constant(const char *name, int64_t value) {
  text_ += std::string(name) + " = " + std::to_string(value) + "\n";
  return *this;
}

TritonSpec &TritonSpec::constant(const char *name, bool value) {
  text_ += std::string(name) + (value ? " = True\n" : " = False\n");
  return *this;
}

TritonSpec &TritonSpec::constant(const char *name, double value) {
  char digits[32];
  snprintf(digits, sizeof digits, "%.17g", value);
  text_ += std::string(name) + " = " + digits + "\n";
  return *this;
}

TritonSpec &TritonSpec::constant(const char *name, const char *text) {
  text_ += std::string(name) + " = '" + text + "'\n";
  return *this;
}

}  // namespace vt_cuda
