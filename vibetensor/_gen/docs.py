"""ops.md: the operator reference."""


def signature(op):
    parts, keyword = [], False
    for p in op.params:
        if p.keyword_only and not keyword:
            parts.append("*")
            keyword = True
        parts.append(p.name + ("" if p.required else f"={p.default!r}"))
    return f"{op.name}({', '.join(parts)})"


def ops_md(ops):
    """One section per operator that a user can call."""
    out = ["# Operators", "", "Generated from the declarations in `vibetensor/opdefs`.", ""]
    for op in sorted(ops.values(), key=lambda o: o.name):
        if not op.surfaces:
            continue
        where = ", ".join(f"`{s}`" for s in op.surfaces)
        out += [f"## {op.name}", "", f"`{signature(op)}`: {op.kind}, on {where}; `{op.where}`", "",
                op.doc, ""]
    return "\n".join(out)
