"""Changes guard.py in every way of a list, one at a time, and says which changes no test notices.

    PYTHONPATH=.:test:$PYTHONPATH python3 test/faults/mutate.py [--only LINE[-LINE]]         # make mutants

`test/test_guard.py` runs against each mutant; the sources stay as they are. Comparisons, arithmetic, boolean operators,
constants, conditions, returned values, assignments to attributes and calls for their effect are changed. A mutant
that hangs counts as killed.
"""
from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import os
import signal
import sys
import time
import types
from pathlib import Path

import arms  # noqa: F401  imports everything slow, once
import pytest

import mbrl_ros
import mbrl_ros.guard

ROOT = Path(__file__).parents[2]
FILE = "mbrl_ros/guard.py"
TESTS = str(ROOT / "test" / "test_guard.py")
PATIENCE = 120  # [s]
COMPARE = {ast.Lt: (ast.LtE, ast.Gt), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.Lt), ast.GtE: (ast.Gt, ast.Lt),
           ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,),
           ast.NotIn: (ast.In,)}
ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult}


def changes(node):
    """What a node may be changed to: functions that change it in place, or a new node."""
    match node:
        case ast.Compare(ops=[op]):
            for other in COMPARE[type(op)]:
                yield ast.Compare(node.left, [other()], node.comparators)
        case ast.Compare():
            yield ast.Constant(True)
            yield ast.Constant(False)
            for i, op in enumerate(node.ops):
                yield ast.Compare(node.left, [*node.ops[:i], COMPARE[type(op)][0](), *node.ops[i + 1 :]],
                                  node.comparators)
        case ast.BinOp(op=op) if type(op) in ARITHMETIC:
            yield ast.BinOp(node.left, ARITHMETIC[type(op)](), node.right)
        case ast.BoolOp():
            yield ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            yield node.operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float()):
            yield ast.Constant(node.value + 1)
        case ast.If() | ast.IfExp():
            for value in (True, False):
                changed = copy.copy(node)
                changed.test = ast.Constant(value)
                yield changed
        case ast.Return(value=value) if value is not None and not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Assign(targets=[ast.Attribute(), *_]):
            yield ast.Pass()
        case ast.Call(func=ast.Attribute(value=ast.Name("np"), attr="minimum" | "maximum" as name)):
            changed = copy.deepcopy(node)
            changed.func.attr = {"minimum": "maximum", "maximum": "minimum"}[name]
            yield changed
        case ast.Call(func=ast.Attribute(value=ast.Name("np"), attr="clip" | "nan_to_num" | "abs" | "array")):
            yield node.args[0]
        case ast.Call(func=ast.Name("min" | "max" as name)):
            yield ast.Call(ast.Name({"min": "max", "max": "min"}[name], ast.Load()), node.args, [])


class Replace(ast.NodeTransformer):
    """One node by another."""

    def __init__(self, number, new):
        self.number, self.new, self.at = number, new, -1

    def visit(self, node):
        self.at += 1
        if self.at == self.number:
            return ast.copy_location(self.new, node)
        return self.generic_visit(node)


def numbered(tree):
    """All nodes, in the order in which NodeTransformer meets them."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        yield from numbered(child)


def skipped(tree):
    """Numbers of nodes that are no behaviour: annotations, decorators, and what describes parameters."""
    numbers = {id(node): i for i, node in enumerate(numbered(tree))}
    described = [c for c in ast.walk(tree) if isinstance(c, ast.Call) and isinstance(c.func, ast.Name)
                 and c.func.id == "param"]
    notes = [n.annotation for n in ast.walk(tree) if isinstance(n, (ast.arg, ast.AnnAssign)) and n.annotation]
    notes += [n.returns for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.returns]
    notes += [d for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef)) for d in n.decorator_list]
    notes += [part for call in described for part in [*call.args[1:], *call.keywords]]
    notes += [n for n in ast.walk(tree) if isinstance(n, ast.JoinedStr)]
    return {numbers[id(inner)] for note in notes for inner in ast.walk(note) if id(inner) in numbers}


def mutants(source):
    """(line, what it was, what it is, source)."""
    tree = ast.parse(source)
    out = skipped(tree)
    for number, node in enumerate(numbered(tree)):
        if number in out:
            continue
        for new in changes(node):
            changed = ast.fix_missing_locations(Replace(number, new).visit(copy.deepcopy(tree)))
            yield node.lineno, ast.unparse(node).splitlines()[0], ast.unparse(new).splitlines()[0], ast.unparse(changed)


def survives(source):
    """Whether the tests pass with it: in a fork of this process, which has imported everything slow."""
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        os.dup2(devnull, 2)
        module = types.ModuleType("mbrl_ros.guard")
        sys.modules["mbrl_ros.guard"] = mbrl_ros.guard = module
        code = 1
        with contextlib.suppress(BaseException):
            exec(compile(source, FILE, "exec"), module.__dict__)
            code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-k", "not needs_neither", TESTS]))
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main():
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--only", default="1-100000", help="lines of guard.py")
    a = p.parse_args()
    first, _, last = a.only.partition("-")
    source = (ROOT / FILE).read_text()
    if not survives(source):
        print("the tests fail without any change")
        return 2
    todo = [m for m in mutants(source) if int(first) <= m[0] <= int(last or first)]
    began, alive = time.monotonic(), 0
    for line, old, new, changed in todo:
        if survives(changed):
            alive += 1
            print(f"{FILE}:{line}: survives: {old}  ->  {new}", flush=True)
    print(f"mutants {len(todo)}  killed {len(todo) - alive}  survived {alive}  "
          f"seconds {time.monotonic() - began:.0f}")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
