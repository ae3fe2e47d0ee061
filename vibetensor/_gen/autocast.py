"""Autocast entries: cast the arguments as opdefs/autocast.py says, then call what lies below."""
from . import schema


def casted(param):
    """The expression that casts one argument."""
    if param.is_tensor:
        return f"autocast_tensor(&_call, {param.name})"
    if param.is_tensor_list:
        return f"autocast_tensors(&_call, {param.name})"
    return param.name


def autocast(op):
    """The function that runs under the Autocast key; [] for an operator on no list."""
    if not op.autocast:
        return []
    policies = set(op.autocast.values())
    first = op.params[0].name
    codes = [f"AUTOCAST_{op.autocast.get(d, 'none').upper()}" for d in ("cpu", "cuda")]
    begin = f"autocast_begin(&_call, _keys, {', '.join(codes)})"
    if "float32_number" in policies:
        begin = f"{first}.flags & F_WRAPPED_NUMBER and {begin}"
    meet = []
    if policies & {"widest", "parameters"}:
        for p in op.params:
            if p.is_tensor:
                meet.append(f"        autocast_meet(&_call, {p.name})")
            elif p.is_tensor_list:
                meet.append(f"        for _t in {p.name}:")
                meet.append("            autocast_meet(&_call, <Tensor>_t)")
    if "float32_dtype" in policies:
        arguments = [
            f"autocast_result_dtype(&_call, {first}, dtype)" if p.name == "dtype" else p.name
            for p in op.params
        ]
    else:
        arguments = [casted(p) for p in op.params]
    call = f"(<fn_{op.name}>_below)({', '.join(arguments)})"
    if "parameters" in policies:
        call = f"autocast_result(&_call, {call}, {first})"
    return [
        f"cdef {schema.returns(op)} autocast_{op.name}({schema.signature(op)}):",
        "    cdef AutocastCall _call",
        f"    cdef uint32_t _keys = {schema.keys(op)}",
        f"    cdef void* _below = vt_entries[OP_{op.name}][vt_top_key(vt_effective_keys(_keys))]",
        "    if _below is NULL:",
        f'        no_entry(b"{op.name}", _keys)',
        f"    if not ({begin}):",
        f"        return (<fn_{op.name}>_below)({schema.arguments(op)})",
        "    try:",
        *meet,
        f"        return {call}",
        "    finally:",
        "        vt_autocast_exchange(_call.outer)",
    ]
