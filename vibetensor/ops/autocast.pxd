"""What the generated autocast entries call; the policies are those of opdefs/autocast.py."""
from libc.stdint cimport uint32_t

from vibetensor.core.tensor cimport Tensor

cdef enum:
    AUTOCAST_NONE, AUTOCAST_LOWER, AUTOCAST_FLOAT32, AUTOCAST_FLOAT32_DTYPE, AUTOCAST_FLOAT32_NUMBER
    AUTOCAST_WIDEST, AUTOCAST_PARAMETERS

cdef struct AutocastCall:
    int device_type     # whose tensors are cast
    int policy
    int dtype           # to what; -1: not at all
    uint32_t outer      # autocast's state around the call

# Whether autocast has to do with a call of these keys: then it is off until
# vt_autocast_exchange(call.outer).
cdef bint autocast_begin(AutocastCall* call, uint32_t keys, int on_cpu, int on_cuda) noexcept
# Takes a tensor into the choice of the dtype (policies "widest" and "parameters").
cdef void autocast_meet(AutocastCall* call, Tensor t) noexcept
# The argument as the operator gets it.
cdef Tensor autocast_tensor(AutocastCall* call, Tensor t)
cdef tuple autocast_tensors(AutocastCall* call, tuple tensors)
cdef int autocast_result_dtype(AutocastCall* call, Tensor first, int dtype) noexcept
# The result of an operator with the policy "parameters".
cdef Tensor autocast_result(AutocastCall* call, Tensor result, Tensor first)
