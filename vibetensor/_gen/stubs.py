"""Python functions and methods: argument checks, then the C entry."""

CHECKS = {
    "int": "int_arg", "float": "float_arg", "bool": "bool_arg", "list[int]": "ints_arg",
    "list[Tensor]": "tensors_arg", "list[Tensor | None]": "optional_tensors_arg",
    "Scalar": "scalar_arg", "Scalar | None": "optional_scalar_arg", "int | None": "optional_int_arg",
    "float | None": "optional_float_arg", "int | list[int]": "dims_arg",
    "int | list[int] | None": "dims_arg", "list[int] | None": "dims_arg",
    "Generator | None": "generator_arg",
}


def default(param):
    return "" if param.required else f"={param.default!r}"


def parameters(params, first=None):
    """The parameter list of a Python function, with the ``*``."""
    out, keyword = [], False
    for p in params:
        if p.keyword_only and not keyword:
            out.append("*")
            keyword = True
        out.append(f"{first or p.name}" if first and p is params[0] else p.name + default(p))
    return out, keyword


def check(op, param, position, shown):
    """The statements that turn a Python argument into what the entry takes."""
    name, where = param.name, f'"{shown}", "{param.name}", {position}'
    if param.type == "Tensor":
        return [f"    if not isinstance({name}, Tensor):",
                f'        wrong_type({where}, "Tensor", {name})']
    if param.type == "Tensor | None":
        return [f"    if {name} is not None and not isinstance({name}, Tensor):",
                f'        wrong_type({where}, "Tensor", {name})']
    if param.type == "Tensor | Number":
        return [f"    if not isinstance({name}, Tensor):",
                f"        {name} = number_tensor_arg({where}, {name})"]
    if param.type in CHECKS:
        return []
    return []


def converted(op, param, position, shown):
    """The expression passed to the entry."""
    name, where = param.name, f'"{shown}", "{param.name}", {position}'
    if param.is_tensor:
        return f"<Tensor>{name}"
    if param.type == "str":
        return f"choice_arg({where}, {op.choices[name]!r}, {name})"
    if param.type.startswith("dtype"):
        return f"dtype_code({name})"
    if param.type in CHECKS:
        return f"{CHECKS[param.type]}({where}, {name})"
    return name


def body(op, entry, shown, indent="    "):
    lines, args = [], []
    for i, p in enumerate(op.params, 1):
        position = 0 if p.keyword_only else i
        lines += check(op, p, position, shown)
        args.append(converted(op, p, position, shown))
    return lines, f"op_{entry}({', '.join(args)})"


def docstring(op):
    text = op.doc.replace('"""', "'''")
    return '    """' + text.replace("\n", "\n    ").rstrip() + '\n    """' if "\n" in text else f'    """{text}"""'


def function(op, entry, out):
    """``name(...)``, with ``out=`` where the operator has it."""
    names, keyword = parameters(op.params)
    if out:
        names += ([] if keyword else ["*"]) + ["out=None"]
    lines = [f"def {entry}({', '.join(names)}):", docstring(op)]
    checks, call = body(op, entry, entry)
    lines += checks
    if out:
        lines += ["    if out is not None:", *out_lines(op, call)]
    return [*lines, f"    return {call}"]


def fast_call(op, entry, functions):
    """The shortcut of a pointwise operator called with tensors by position (core/fast_call.h)."""
    rest = op.params[len(op.tensors):]
    if op.kind != "pointwise" or any(p.required or p.type == "str" for p in rest):
        return []
    if any(p.default is not None for p in op.tensors if not p.required):
        return []
    n = len(op.tensors)
    test = " and ".join(f"is_tensor(args[{i}])" for i in range(n))
    call = ", ".join([f"<Tensor>args[{i}]" for i in range(n)] + [repr(p.default) for p in rest])
    return [
        f"cdef object fast_{entry}(PyObject* f, PyObject** args, size_t n, PyObject* names):",
        f"    if names is NULL and PyVectorcall_NARGS(n) == {n} and {test}:",
        f"        return op_{entry}({call})",
        "    return vt_plain_call(f, args, n, names)",
        *(f"vt_set_fast_call({f}, fast_{entry})" for f in functions),
    ]


def out_lines(op, call):
    """The statements of a call with ``out=``, which autocast leaves alone."""
    result = f"return {out_call(op, call)}"
    if not op.autocast or op.kind in ("pointwise", "reduction"):  # those pass by the entries
        return [f"        {result}"]
    return [
        "        _devices = vt_autocast_exchange(0)",
        "        try:",
        f"            {result}",
        "        finally:",
        "            vt_autocast_exchange(_devices)",
    ]


def out_call(op, call):
    if op.kind in ("pointwise", "reduction"):
        arguments = call[call.index("(") + 1 : -1]
        tensors = ", ".join(f"<Tensor>{p.name}" for p in op.tensors)
        return f'write_out("{op.name}", ({tensors},), impl_{op.name}({arguments}, out_arg("{op.name}", ({tensors},), out)))'
    return f'store_out("{op.name}", {call}, out)'


def method(op, entry):
    """A method whose signature differs from the function's."""
    params = list(op.params)
    me = op.method or params[0].name
    params.sort(key=lambda p: p.name != me)
    names, _ = parameters([p for p in params if p.name != op.varargs])
    if op.varargs:
        names = [n for n in names if n != "*"]
        names[1:1] = ["*_args", f"{op.varargs}=None"]
    lines = [f"def method_{entry}({', '.join(names)}):", docstring(op)]
    if op.varargs:
        p = next(p for p in params if p.name == op.varargs)
        lines += [f"    if {p.name} is None:",
                  f'        {p.name} = varargs("{entry}", "{p.name}", _args)']
    checks, call = body(op, entry, entry)
    return [*lines, *checks, f"    return {call}"]


SLOTS_UNARY = ("__neg__", "__abs__", "__invert__", "__pos__")
COMPARISONS = {"__lt__": 0, "__le__": 1, "__eq__": 2, "__ne__": 3, "__gt__": 4, "__ge__": 5}


def operator(op, name):
    """The C function behind a Python operator, and the call that installs it."""
    c = f"slot{name}{op.name}"
    entry = f"op_{op.name}_" if name.startswith("__i") and name != "__invert__" else f"op_{op.name}"
    extra = "".join(f", {p.default!r}" for p in op.params[len(op.tensors):])
    if name in SLOTS_UNARY:
        return [f"cdef object {c}(object a):", f"    return {entry}(<Tensor>a{extra})",
                f'set_slot(b"{name}", <void*>{c})']
    lines = [f"cdef object {c}(object a, object b):", *operand(op.tensors[1], "b")]
    if name not in COMPARISONS and not name.startswith("__i"):
        lines += operand(op.tensors[0], "a")
    lines.append(f"    return {entry}(<Tensor>a, <Tensor>b{extra})")
    install = (f"set_comparison({COMPARISONS[name]}, <void*>{c})" if name in COMPARISONS
               else f'set_slot(b"{name}", <void*>{c})')
    return [*lines, install]


def operand(param, name):
    """The statements that make a tensor of one side of an operator, where it takes numbers."""
    if param.type != "Tensor | Number":
        return [f"    if not isinstance({name}, Tensor):", "        return NotImplemented"]
    return [
        f"    if not isinstance({name}, Tensor):",
        f"        {name} = operand({name})",
        f"        if {name} is None:",
        "            return NotImplemented",
    ]


def same_signature(op, out):
    return not out and not op.varargs and op.method in (None, op.params[0].name)


def stubs(op):
    """All Python callables of an operator and the statements that publish them."""
    lines, publish = [], []
    s = op.surfaces
    out = "out" in s
    modules = [m for m in s if m in ("vt", "nn.functional", "special")]
    if op.name.endswith("_") and op.mutates:  # in-place only
        lines += function(op, op.name, False)
        for m in modules or (["ops"] if not s else []):
            publish.append(f'publish("{m}", "{op.name}", {op.name})')
        if "Tensor" in s:
            publish.append(f'install("{op.name}", {op.name})')
        return lines + publish
    names = op.names
    functions = []
    if modules or (("Tensor" in s) and same_signature(op, out)) or not s:
        lines += function(op, op.name, out)
        functions.append(op.name)
        for m in modules or (["ops"] if not s else []):
            publish += [f'publish("{m}", "{n}", {op.name})' for n in names]
    if "Tensor" in s:
        if same_signature(op, out):
            publish += [f'install("{n}", {op.name})' for n in names]
        else:
            lines += method(op, op.name)
            if op.method in (None, op.params[0].name):
                functions.append(f"method_{op.name}")
            publish += [f'install_method("{n}", method_{op.name})' for n in names]
    lines += fast_call(op, op.name, functions)
    if op.inplace and not op.name.endswith("_"):
        lines += function(op, op.name + "_", False)
        lines += fast_call(op, op.name + "_", [op.name + "_"])
        if "inplace" in s:
            publish += [f'install("{n}_", {op.name}_)' for n in names]
        if "vt_" in s:
            publish += [f'publish("vt", "{n}_", {op.name}_)' for n in names]
        if "nn.functional_" in s:
            publish += [f'publish("nn.functional", "{n}_", {op.name}_)' for n in names]
    for name in op.operators:
        lines += operator(op, name)
    return lines + publish

