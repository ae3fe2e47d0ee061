"""The C side of a declaration: types, signatures, dispatch keys."""

C_TYPES = {
    "Tensor": "Tensor", "Tensor | None": "Tensor", "Tensor | Number": "Tensor",
    "list[Tensor]": "tuple", "list[Tensor | None]": "tuple", "list[int]": "tuple",
    "int": "int64_t", "float": "double", "bool": "bint", "str": "int",
    "dtype": "int", "dtype | None": "int",
}
WORDS = {"int64_t": "i", "bint": "i", "int": "i", "double": "d"}


def c_type(param):
    return C_TYPES.get(param.type, "object")


def returns(op):
    return "Tensor" if op.returns == ("Tensor",) else "tuple"


def signature(op):
    return ", ".join(f"{c_type(p)} {p.name}" for p in op.params)


def types(op):
    return ", ".join(c_type(p) for p in op.params)


def arguments(op):
    return ", ".join(p.name for p in op.params)


def keys(op):
    """The expression for the dispatch keys of the arguments."""
    terms = []
    for p in op.params:
        if p.type in ("Tensor", "Tensor | Number"):
            terms.append(f"{p.name}.keyset")
        elif p.type == "Tensor | None":
            terms.append(f"optional_keys({p.name})")
        elif p.is_tensor_list:
            terms.append(f"list_keys({p.name})")
    return " | ".join(terms) or "0"


def differentiable(op):
    """The parameters that receive a gradient, in the order the gradient returns them."""
    every = [p for p in op.params if p.is_tensor or p.is_tensor_list]
    if op.differentiable is None:
        return every
    return [p for p in every if p.name in op.differentiable]


def node_name(op):
    name = op.node or "".join(part.capitalize() for part in op.name.strip("_").split("_"))
    return name + "Backward0"


def variants(op):
    """The C entries of an operator: itself, and its derived in-place form."""
    if op.kind == "handwritten":
        return []
    return [op.name, op.name + "_"] if op.inplace and not op.name.endswith("_") else [op.name]


def all_entries(ops):
    """Every entry name, in a fixed order: the operator ids."""
    return [name for op in ops.values() for name in variants(op)]


def functors(ops):
    """Every pointwise functor, once, in a fixed order."""
    return list(dict.fromkeys(f for op in ops.values() for f in op.functors))
