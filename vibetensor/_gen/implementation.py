"""Backend entries: what an operator does below autograd, by kind."""
import ast

from . import bodies, schema

PROMOTE = {name: f"PROMOTE_{name.upper()}" for name in ("default", "float", "integer")}
VALUE_SETTERS = {"int": "int_value", "float": "float_value", "scalar": "scalar_value"}


DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32",
          "float64", "complex64", "complex128")  # by code


def value_type(param):
    """The kind of kernel value a parameter becomes."""
    kinds = {"int": "int", "bool": "int", "str": "int", "float": "float", "list[int]": "ints"}
    kinds |= {"dtype | None": "int", "list[Tensor]": "tensors", "list[Tensor | None]": "tensors"}
    return kinds.get(param.type, "scalar")


def flags(op):
    return " | ".join(f.upper() for f in op.flags) or "0"


def direct(op):
    """The dtypes, as bits, in which operands go to the loop as they are."""
    if op.bools:
        return 0
    cast = op.promote == "float" or "check_zero_divisor" in op.flags
    first = DTYPES.index("float16") if cast else 0
    return sum(1 << DTYPES.index(d) for d in op.dtypes if DTYPES.index(d) >= first)


def spec(op):
    """The static description a pointwise or reduction operator hands to core/iterator.pyx."""
    if op.kind == "pointwise":
        lines = [f"cdef vt_pointwise spec_{op.name}[{len(op.functors)}]"]
        mask = sum(1 << i for i, p in enumerate(op.tensors) if p.name in op.bools)
        for i, functor in enumerate(op.functors):
            s = f"spec_{op.name}[{i}]"
            lines += [
                f'{s}.name = b"{op.name}"', f"{s}.functor = FN_{functor}",
                f"{s}.ninputs = {len(op.tensors)}", f"{s}.promote = {PROMOTE[op.promote]}",
                f"{s}.result = RESULT_{op.result.upper()}", f"{s}.bool_mask = {mask}",
                f"{s}.dtypes = {sum(1 << DTYPES.index(d) for d in op.dtypes)}",
                f"{s}.direct = {direct(op)}", f"{s}.flags = {flags(op)}",
            ]
        return lines
    if op.kind == "reduction":
        s = f"spec_{op.name}"
        return [
            f"cdef vt_reduction {s}", f'{s}.name = b"{op.name}"', f"{s}.op = OP_{op.name}",
            f"{s}.promote = {PROMOTE[op.promote]}", f"{s}.result = RESULT_{op.result.upper()}",
            f"{s}.flags = {flags(op)}",
        ]
    return []


def pointwise(op, ops):
    tensors = op.tensors
    choice = next((p.name for p in op.params if p.type == "str"), "0")
    values = [p for p in op.params if not p.is_tensor and p.type != "str"]
    lines = [f"cdef inline Tensor impl_{op.name}({schema.signature(op)}, Tensor _out):"]
    if op.prepare_fn is not None:
        lines += bodies.source(bodies.statements(op.prepare_fn, ops), "    ")
    lines.append(f"    cdef PyObject* _inputs[{len(tensors)}]")
    lines += [f"    _inputs[{i}] = <PyObject*>{p.name}" for i, p in enumerate(tensors)]
    if values:
        lines.append(f"    cdef vt_value _values[{len(values)}]")
        lines += [
            f"    {VALUE_SETTERS[value_type(p)]}({p.name}, &_values[{i}])"
            for i, p in enumerate(values)
        ]
    argument = "_values" if values else "NULL"
    lines.append(f"    return pointwise(&spec_{op.name}[{choice}], _inputs, {argument}, _out)")
    return lines


def reduction(op):
    names = {p.name for p in op.params}
    first = int("single_dim" in op.flags)  # the iterator fills that one
    lines = [
        f"cdef Tensor impl_{op.name}({schema.signature(op)}, Tensor _out):",
        f"    cdef vt_value _values[{1 + len(op.values)}]",
    ]
    lines += [
        f"    {VALUE_SETTERS[kind]}({name}, &_values[{i}])"
        for i, (kind, name) in enumerate(op.values, first)
    ]
    dim = "dim" if "dim" in names else "None"
    keepdim = "keepdim" if "keepdim" in names else "False"
    dtype = "dtype" if "dtype" in names else "-1"
    lines.append(
        f"    return reduction(&spec_{op.name}, input, {dim}, {keepdim}, {dtype}, _values, _out)"
    )
    return lines


def kernel(op, ops):
    """prepare, then the kernel call over arrays and values."""
    lines = [f"cdef {schema.returns(op)} impl_{op.name}({schema.signature(op)}):"]
    tensors = op.tensors
    if len(tensors) > 1:
        lines.append(f"    cdef PyObject* _inputs[{len(tensors)}]")
        lines += [f"    _inputs[{i}] = <PyObject*>{p.name}" for i, p in enumerate(tensors)]
        lines.append(f'    check_devices(b"{op.name}", _inputs, {len(tensors)})')
    outputs = []
    if op.prepare_fn is not None:
        body = bodies.statements(op.prepare_fn, ops)
        if op.mutates:
            lines += bodies.source(body, "    ")
        else:
            body, result = bodies.split_return(body, op.where)
            lines += bodies.source(body, "    ")
            items = result.elts if isinstance(result, ast.Tuple) else [result]
            outputs = [f"_out{i}" for i in range(len(items))]
            for name, item in zip(outputs, items, strict=True):
                lines.append(f"    cdef Tensor {name} = {ast.unparse(item)}")
    values = op.values
    if values is None:
        others = [p for p in op.params if not p.is_tensor]
        values = tuple((value_type(p), p.name) for p in others)
    lines += call(op, [p.name for p in tensors] + outputs, values)
    if op.mutates:
        lines.append(f"    return {tensors[0].name}")
    elif len(outputs) == 1:
        lines.append("    return _out0")
    else:
        lines.append(f"    return ({', '.join(outputs[:len(op.returns)])})")
    return lines


def call(op, arrays, values):
    lines = [f"    cdef vt_array _arrays[{len(arrays)}]"]
    lines += [f"    tensor_array({name}, &_arrays[{i}])" for i, name in enumerate(arrays)]
    if values:
        lines.append(f"    cdef vt_value _values[{len(values)}]")
    release = []
    for i, (kind, name) in enumerate(values):
        if kind == "ints":
            lines.append(f"    cdef int64_t _ints{i}[VT_MAX_DIMS]")
            lines.append(f"    ints_value({name}, _ints{i}, &_values[{i}])")
        elif kind == "tensors":
            lines.append(f"    cdef TensorArrays _list{i} = TensorArrays({name})")
            lines.append(f'    _list{i}.beside(b"{op.name}", &_arrays[0], &_values[{i}])')
        else:
            lines.append(f"    {VALUE_SETTERS[kind]}({name}, &_values[{i}])")
    argument = "_values" if values else "NULL"
    lines.append(
        f'    run_kernel(b"{op.name}", OP_{op.name}, _arrays, {len(arrays)}, {argument})'
    )
    return lines + release


def view(op):
    lines = [f"cdef {schema.returns(op)} backend_{op.name}({schema.signature(op)}):"]
    call = f"{op.kernel}({schema.arguments(op)})"
    if op.returns == ("list",):
        return [
            *lines, f"    cdef tuple _views = {call}", "    for _v in _views:",
            "        set_view(<Tensor>_v, input)", "        (<Tensor>_v).flags |= F_VIEW_MULTI",
            "    return _views",
        ]
    return [*lines, f"    cdef Tensor _view = {call}", "    set_view(_view, input)", "    return _view"]


def backend(op, ops):
    """All functions of an operator below autograd; the name to register is ``backend_<entry>``."""
    sig, args, ret = schema.signature(op), schema.arguments(op), schema.returns(op)
    if op.kind == "view":
        return view(op)
    if op.kind == "composite":
        return bodies.composite(op, op.fn, "backend", ops)
    if op.kind == "manual":
        lines = []
        for name in schema.variants(op):
            lines += [f"cdef {ret} backend_{name}({sig}):", f"    return manual_{name}({args})"]
        return lines
    first = op.params[0].name
    if op.kind == "kernel":
        lines = kernel(op, ops)
        if op.mutates:
            lines += [f"cdef Tensor write_{op.name}({sig}):", f"    begin_write({first})"]
            lines += [f"    impl_{op.name}({args})", f"    bump_version({first})", f"    return {first}"]
        for name in schema.variants(op):
            lines.append(f"cdef {ret} backend_{name}({sig}):")
            if op.mutates and not name.endswith("_"):
                lines += [f"    {first} = copy_of({first})", f"    return impl_{op.name}({args})"]
            elif op.mutates:
                lines.append(f"    return write_{op.name}({args})")
            else:
                lines.append(f"    return impl_{op.name}({args})")
        return lines
    lines = pointwise(op, ops) if op.kind == "pointwise" else reduction(op)
    lines += [f"cdef Tensor backend_{op.name}({sig}):", f"    return impl_{op.name}({args}, None)"]
    if op.inplace:
        lines += [
            f"cdef Tensor backend_{op.name}_({sig}):", f"    begin_write({first})",
            f"    impl_{op.name}({args}, {first})", f"    bump_version({first})", f"    return {first}",
        ]
    return lines
