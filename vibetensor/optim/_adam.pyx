# cython: language_level=3, binding=False, boundscheck=False, wraparound=False
"""What Adam does for each parameter of a step before the kernel, which takes them all at once."""
from vibetensor.core.tensor cimport Tensor, bump_version
from vibetensor.core.types cimport VT_CPU, VT_F32


cdef inline bint is_plain(object count):
    """Whether a count of steps is what Adam makes it; one that was loaded may be any number."""
    return (type(count) is Tensor and (<Tensor>count).dtype == VT_F32
            and (<Tensor>count).device_type == VT_CPU and (<Tensor>count).numel == 1)


cdef class Rows:
    """Parameters that step together: of one device and dtype, with the same number of steps taken
    (``step`` counts the one to come) and left out (``skipped``, a tensor or None)."""

    cdef readonly list parameters, gradients, states, means, squares
    cdef readonly long step
    cdef readonly object skipped
    cdef Tensor first

    def __cinit__(self, Tensor first, long step, skipped):
        self.first, self.step, self.skipped = first, step, skipped
        self.parameters, self.gradients, self.states = [], [], []
        self.means, self.squares = [], []

    cdef inline bint takes(self, Tensor parameter, long step, object skipped):
        cdef Tensor first = self.first
        return (step == self.step and skipped is self.skipped and parameter.dtype == first.dtype
                and parameter.device_type == first.device_type
                and parameter.device_index == first.device_index)


def rows_of(parameters, states, make):
    """The parameters that have a gradient, as a list of :class:`Rows`. ``make(parameter)`` gives a
    parameter the state that it does not have yet."""
    cdef list found = []
    cdef Rows rows = None
    cdef Tensor parameter
    cdef long step
    for parameter in parameters:
        if parameter.grad is NULL:
            continue
        state = states.get(parameter)
        if state is None or "step" not in state:
            state = make(parameter)
        count, skipped = state["step"], state.get("skipped")
        step = 1 + (<long>(<float*>(<Tensor>count).data)[0] if is_plain(count) else int(count))
        if rows is None or not rows.takes(parameter, step, skipped):
            for rows in found:
                if rows.takes(parameter, step, skipped):
                    break
            else:
                rows = Rows(parameter, step, skipped)
                found.append(rows)
        rows.parameters.append(parameter)
        rows.gradients.append(<object>parameter.grad)
        rows.states.append(state)
        rows.means.append(state["exp_avg"])
        rows.squares.append(state["exp_avg_sq"])
    return found


def count_step(list states):
    """Add one to the number of steps that each state has taken."""
    for state in states:
        count = state["step"]
        if is_plain(count):
            (<float*>(<Tensor>count).data)[0] += 1
            bump_version(<Tensor>count)
        else:
            state["step"] += 1
