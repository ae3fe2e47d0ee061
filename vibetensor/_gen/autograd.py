"""Autograd entries and backward functions, from the declared gradients."""
import ast
import inspect

from . import bodies, schema


class Gradient:
    """A declared gradient, analysed: what it saves, and when."""

    def __init__(self, op, ops):
        self.op = op
        self.inputs = schema.differentiable(op)
        self.where = f"{op.where} (gradient)"
        body = bodies.statements(op.grad_fn, ops)
        self.before, result = bodies.split_return(body, self.where)
        if len(self.inputs) > 1 and isinstance(result, ast.Tuple):
            if len(result.elts) != len(self.inputs):
                raise TypeError(f"{self.where}: {len(self.inputs)} gradients expected")
            self.parts = result.elts
        else:
            self.parts = [result]
        # A call that gives all gradients at once; else one expression per input.
        self.joint = len(self.inputs) > 1 and len(self.parts) == 1
        by_name = {p.name: p for p in op.params}
        self.tensors, self.outputs, self.words, self.objects, self.expressions = [], [], [], [], []
        self.shapes, self.dtypes = [], []
        parameters = list(inspect.signature(op.grad_fn).parameters.values())
        wanted_names = [p.name for p in parameters]
        if op.reference_fn is not None:
            wanted_names += [n for n in by_name if n not in wanted_names]
        defaults = {p.name: p.default for p in parameters if isinstance(p.default, str)}
        for name in wanted_names:
            if name in ("grad", "grads", "wanted"):
                continue
            if name in defaults:
                self.expressions.append((name, bodies.expression(defaults[name], ops)))
            elif name in op.outputs:
                self.outputs.append(name)
            elif name in by_name and by_name[name].is_tensor:
                self.tensors.append(name)
            elif name in by_name:
                kind = schema.c_type(by_name[name])
                (self.words if kind in schema.WORDS else self.objects).append(name)
            elif name.endswith("_shape"):
                self.shapes.append(name)
            else:
                self.dtypes.append(name)
        self.names = wanted_names
        self.types = {p.name: schema.c_type(p) for p in op.params}
        self.slots = self.tensors + self.outputs + self.objects + [e[0] for e in self.expressions]
        if len(self.words) > 8:
            raise TypeError(f"{self.where}: saves more than 8 numbers")

    def users(self, name):
        """The inputs whose gradient reads `name`; None: all of them."""
        if self.joint or any(name in bodies.names(s) for s in self.before) or self.op.reference_fn:
            return None
        return [i for i, part in enumerate(self.parts) if name in bodies.names(part)]

    def condition(self, name):
        """When `name` must be saved, over the flags _n0, _n1 ...; "" for always."""
        users = self.users(name)
        if users is None or len(users) >= len(self.inputs):
            return ""
        return " or ".join(f"_n{i}" for i in users)


def edge_index(gradient, i):
    """The index of the first edge of input i; a list has one edge per tensor."""
    before = gradient.inputs[:i]
    fixed = sum(not p.is_tensor_list for p in before)
    lists = "".join(f" + len({p.name})" for p in before if p.is_tensor_list)
    return f"{fixed}{lists}"


def recording(gradient, inplace):
    """The statements that make the node: its edges, and all it saves but outputs."""
    op = gradient.op
    result_type = "Tensor" if inplace else schema.returns(op)
    noutputs = "1" if result_type == "Tensor" else "<int>len(_result)"
    nedges = edge_index(gradient, len(gradient.inputs))
    lines = [
        f'_node = node_new(backward_{op.name}, b"{schema.node_name(op)}", '
        f"<int>({nedges}), {len(gradient.slots)}, {noutputs})"
    ]
    for i, p in enumerate(gradient.inputs):
        index = edge_index(gradient, i)
        if p.is_tensor_list:
            lines += [
                f"for _i in range(len({p.name})):",
                f"    node_edge(_node, <int>({index} + _i), <Tensor>{p.name}[_i])",
            ]
        else:
            lines.append(f"node_edge(_node, {index}, {p.name})")
    for slot, saved in enumerate(gradient.tensors):
        source = "_original" if inplace and saved == op.params[0].name else saved
        save = f"node_save(_node, {slot}, {source})"
        condition = gradient.condition(saved)
        lines += [f"if {condition}:", f"    {save}"] if condition else [save]
    slot = len(gradient.tensors) + len(gradient.outputs)
    for saved in gradient.objects:
        lines.append(f"node_save_object(_node, {slot}, {saved})")
        slot += 1
    for _, text in gradient.expressions:
        lines.append(f"node_save_object(_node, {slot}, {text})")
        slot += 1
    for word, saved in enumerate(gradient.words):
        field = schema.WORDS[gradient.types[saved]]
        lines.append(f"_node.words[{word}].{field} = {saved}")
    return lines


def entry(gradient, name):
    """The function that runs under the Autograd key: calls the backend, records a node."""
    op = gradient.op
    inplace = name.endswith("_") and (op.mutates or name != op.name)
    args, ret = schema.arguments(op), schema.returns(op)
    result_type = "Tensor" if inplace else ret
    first = op.params[0].name
    lines = [f"cdef {result_type} autograd_{name}({schema.signature(op)}):"]
    flags = []
    for i, p in enumerate(gradient.inputs):
        test = f"any_needs_grad({p.name})" if p.is_tensor_list else f"needs_grad({p.name})"
        if p.type == "Tensor | None":
            test = f"{p.name} is not None and {test}"
        lines.append(f"    cdef bint _n{i} = {test}")
        flags.append(f"_n{i}")
    done = " or ".join(flags)
    call = (
        f"    cdef {result_type} _result = (<fn_{op.name}>below_autograd(OP_{name}, "
        f"{schema.keys(op)}))({args})"
    )
    if inplace:
        # The node is made before the write: what it leads to and saves is what was there then.
        lines += ["    cdef Node _node = None"]
        if first in gradient.tensors:
            lines += ["    cdef Tensor _original = None"]
        lines += [f"    if {done}:", f'        check_inplace({first}, b"{name}")']
        if first in gradient.tensors:
            condition = gradient.condition(first) or done
            lines += [
                f"        if {condition}:",
                f"            _original = op__clone({first}, False)",  # with its history
            ]
        lines += [f"        {line}" for line in recording(gradient, True)]
        lines += [call, "    if _node is None:", "        return _result"]
    else:
        lines += [call, f"    if not ({done}):", "        return _result"]
    if result_type == "Tensor":
        lines += ["    if _result.dtype < VT_F16:", "        return _result"]
    if not inplace:
        make, *rest = recording(gradient, False)
        lines += [f"    cdef Node {make}", *(f"    {line}" for line in rest)]
    if inplace:
        lines.append("    rebase_history(_result, _node, 0)")
    elif result_type == "Tensor":
        lines.append("    set_history(_result, _node, 0)")
    else:
        lines += [
            "    for _i in range(len(_result)):",
            "        if _result[_i] is not None and (<Tensor>_result[_i]).dtype >= VT_F16:",
            "            set_history(<Tensor>_result[_i], _node, _i)",
        ]
    for k, saved in enumerate(gradient.outputs):
        value = "_result" if result_type == "Tensor" else f"<Tensor>_result[{op.outputs.index(saved)}]"
        lines.append(f"    node_save_output(_node, {len(gradient.tensors) + k}, {value})")
    return [*lines, "    return _result"]


def unpack(gradient, name):
    """The statement that loads one saved name in the backward."""
    if name in gradient.shapes or name in gradient.dtypes:
        base, what = name.rsplit("_", 1)
        index = edge_index(gradient, [p.name for p in gradient.inputs].index(base))
        return f"{name} = edge_{what}(_node, {index})"
    if name in gradient.words:
        field = schema.WORDS[gradient.types[name]]
        return f"{name} = _node.words[{gradient.words.index(name)}].{field}"
    slot = gradient.slots.index(name)
    if name in gradient.tensors or name in gradient.outputs:
        return f"{name} = node_saved(_node, {slot})"
    kind = gradient.types.get(name, "object")
    cast = f"<{kind}>" if kind == "tuple" else ""
    return f"{name} = {cast}node_saved_object(_node, {slot})"


def declarations(gradient):
    """Typed locals for everything the backward may load."""
    lines = []
    for name in gradient.tensors + gradient.outputs:
        lines.append(f"    cdef Tensor {name}")
    for name in gradient.words:
        lines.append(f"    cdef {gradient.types[name]} {name}")
    for name in gradient.shapes:
        lines.append(f"    cdef tuple {name}")
    for name in gradient.dtypes:
        lines.append(f"    cdef int {name}")
    return lines


def backward(gradient, ops):
    """The function a node of this operator runs."""
    op = gradient.op
    lines = [f"cdef int backward_{op.name}(Node _node, PyObject** _grads, PyObject** _out) except -1:"]
    lines += declarations(gradient)
    names = [n for n in gradient.names if n not in ("grad", "grads", "wanted")]
    if op.reference_fn is not None:
        lines.append("    if vt_grad_enabled():")
        lines += [f"        {unpack(gradient, n)}" for n in names if n in gradient.types]
        values = ", ".join(p.name for p in op.params)
        inputs = [p.name for p in op.params]
        where = tuple(inputs.index(p.name) for p in gradient.inputs)
        lines.append(
            f"        return reference_backward(_node, python_reference_{op.name}, ({values},), "
            f"{where!r}, _grads, _out)"
        )
    if "grad" in gradient.names:
        lines += ["    cdef Tensor grad = gradient_at(_grads, 0)"]
        if op.returns != ("Tensor",):
            lines += ["    if grad is None:", "        return 0"]
    if "grads" in gradient.names:
        lines.append("    cdef tuple grads = gradient_tuple(_node, _grads)")
    if "wanted" in gradient.names:
        lines.append("    cdef tuple wanted = wanted_edges(_node)")
    eager = [n for n in names if gradient.users(n) is None]
    lines += [f"    {unpack(gradient, n)}" for n in eager]
    lines += bodies.source(gradient.before, "    ")
    lazy = [n for n in names if n not in eager]
    if gradient.joint:
        lines.append(f"    put_gradients(_node, _out, {ast.unparse(gradient.parts[0])})")
    elif len(gradient.inputs) == 1 and gradient.inputs[0].is_tensor_list:
        lines += [f"    {unpack(gradient, n)}" for n in lazy]
        lines.append(f"    put_gradients(_node, _out, {ast.unparse(gradient.parts[0])})")
    else:
        for i, part in enumerate(gradient.parts):
            if isinstance(part, ast.Constant) and part.value is None:
                continue
            lines.append(f"    if edge_wanted(_node, <int>({edge_index(gradient, i)})):")
            used = bodies.names(part)
            lines += [f"        {unpack(gradient, n)}" for n in lazy if n in used]
            lines.append(f"        put_gradient(_out, {i}, {ast.unparse(part)})")
    return [*lines, "    return 0"]


def autograd(op, ops):
    """Everything above the backend for one operator; [] if it has no gradient."""
    if op.grad_fn is None:
        return []
    gradient = Gradient(op, ops)
    lines = []
    if op.reference_fn is not None:
        lines += bodies.composite(op, op.reference_fn, "reference", ops)
        names = ", ".join(p.name for p in op.params)
        lines += [f"def python_reference_{op.name}({names}):"]
        lines += [f"    return reference_{op.name}({names})"]
    lines += backward(gradient, ops)
    for name in schema.variants(op):
        lines += entry(gradient, name)
    return lines
