"""Bodies of declarations (gradients, composites, prepare) as Cython source.

A body is Python that gets compiled. Calls of operators by name become calls of their C entries with
the defaults filled in; everything else stays as written.
"""
import ast
import inspect
import textwrap

from . import schema


class Calls(ast.NodeTransformer):
    """Turns ``softmax(x, dim=1)`` into ``op_softmax(x, 1, -1)``."""

    def __init__(self, ops):
        self.ops = ops

    def visit_Call(self, node):
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else None
        inplace = name is not None and name not in self.ops and name.endswith("_")
        op = self.ops.get(name[:-1] if inplace else name) if name else None
        if op is None or (inplace and not op.inplace):
            return node
        given = dict(zip([p.name for p in op.params], node.args, strict=False))
        given.update((k.arg, k.value) for k in node.keywords)
        arguments = [self.argument(op, p, given) for p in op.params]
        return ast.Call(ast.Name(f"op_{name}", ast.Load()), arguments, [])

    def argument(self, op, param, given):
        value = given.get(param.name)
        if value is None:
            if param.required:
                raise TypeError(f"a call of {op.name} lacks {param.name}")
            value = ast.Constant(param.default)
        if not isinstance(value, ast.Constant):
            return value
        if param.type == "str":
            return ast.Constant(op.choices[param.name].index(value.value))
        if param.type.startswith("dtype"):
            return ast.Constant(-1) if value.value is None else value
        if param.type == "Tensor | Number" and value.value is not None:
            return ast.Call(ast.Name("tensor_wrap_number", ast.Load()), [value], [])
        return value


def statements(fn, ops):
    """The statements of a body, calls rewritten, docstring dropped."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(fn))).body[0]
    body = tree.body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    calls = Calls(ops)
    return [ast.fix_missing_locations(calls.visit(s)) for s in body]


def expression(text, ops):
    """One expression given as a string, calls rewritten."""
    return ast.unparse(Calls(ops).visit(ast.parse(text, mode="eval").body))


def names(node):
    """The names that a statement or expression reads."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def source(statements, indent):
    return [indent + line for s in statements for line in ast.unparse(s).split("\n")]


def split_return(statements, where):
    """The statements before the final ``return`` and the returned expression."""
    if not statements or not isinstance(statements[-1], ast.Return):
        raise TypeError(f"{where}: the body must end in a return")
    for s in statements[:-1]:
        if any(isinstance(n, ast.Return) for n in ast.walk(s)):
            raise TypeError(f"{where}: only the last statement may return")
    return statements[:-1], statements[-1].value


def composite(op, fn, prefix, ops):
    """A body as a C function of the operator's own signature."""
    lines = [f"cdef {schema.returns(op)} {prefix}_{op.name}({schema.signature(op)}):"]
    body = statements(fn, ops)
    lines += source(body, "    ")
    return lines
