"""Everything that generated code needs of autograd, in one line: the node calls and the "
"engine's."""
from vibetensor.autograd.engine cimport reference_backward
from vibetensor.autograd.node cimport (
    check_inplace, gradient_fn, needs_grad, rebase_history, set_history, set_view,
)
