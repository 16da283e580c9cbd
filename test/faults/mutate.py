"""Changes guard.py in every way of a list, one at a time, and says which changes no test notices.

    PYTHONPATH=.:test:$PYTHONPATH python3 test/faults/mutate.py [--only LINE[-LINE]]         # make mutants

`test/test_guard.py` runs against each mutant, in a fork of one process; the sources stay as they are. Comparisons,
arithmetic, boolean operators, constants, conditions, returned values, assignments to attributes and calls for their
effect are changed. A mutant that hangs counts as killed.
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
import warnings
from pathlib import Path

import pytest

import mbrl_ros
import mbrl_ros.ring.guard

ROOT = Path(__file__).parents[2]
FILE = "mbrl_ros/ring/guard.py"
TESTS = str(ROOT / "test" / "test_guard.py")
USERS = ("test_guard", "truths")  # who import from it
PATIENCE = 120  # [s]
BROKEN = 255  # exit code of a mutant that cannot be imported
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
            yield ast.Constant(node.value + 1 if abs(node.value) < 1e3 else 2 * node.value)
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
    """Numbers of nodes that are no behaviour: annotations and what they need, decorators, and what describes
    parameters."""
    numbers = {id(node): i for i, node in enumerate(numbered(tree))}
    described = [c for c in ast.walk(tree) if isinstance(c, ast.Call) and isinstance(c.func, ast.Name)
                 and c.func.id == "param"]
    notes = [n.annotation for n in ast.walk(tree) if isinstance(n, (ast.arg, ast.AnnAssign)) and n.annotation]
    notes += [n.returns for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.returns]
    notes += [d for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef)) for d in n.decorator_list]
    notes += [part for call in described for part in [*call.args[1:], *call.keywords]]
    notes += [n for n in ast.walk(tree) if isinstance(n, ast.JoinedStr)]
    notes += [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
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


class Tests:
    """Collected once, by pytest, and run once without any change to see which test calls which function, and for how
    long; then those that call a changed function run: first those that noticed another change to it, the quickest
    first."""

    def __init__(self, first, last):
        self.first, self.last = first, last
        self.calls, self.seconds = {}, {}  # of a test: first lines of the functions it calls; how long it takes
        self.noticed = set()  # (first lines of the functions, test)
        self.code = 2

    def pytest_runtestloop(self, session):
        """Instead of running the tests."""
        for item in [item for item in session.items if "needs_neither" not in item.name]:  # looks at another process
            lines, began = set(), time.perf_counter()
            sys.setprofile(lambda frame, *_, seen=lines: seen.add(frame.f_code.co_firstlineno)
                           if frame.f_code.co_filename == mbrl_ros.ring.guard.__file__ else None)
            passed = passes(item)
            sys.setprofile(None)
            self.calls[item], self.seconds[item] = lines, time.perf_counter() - began
            if not passed:
                print(f"{item.name} fails without any change")
                return True
        self.code = self.mutate()
        return True

    def mutate(self):
        """Every mutant; 1 where one survives."""
        source, began, survived = (ROOT / FILE).read_text(), time.monotonic(), 0
        todo = [m for m in mutants(source) if self.first <= m[0] <= self.last]
        for line, old, new, changed in todo:
            if self.survives(changed, functions(source, line)):
                survived += 1
                print(f"{FILE}:{line}: survives: {old}  ->  {new}", flush=True)
        print(f"mutants {len(todo)}  killed {len(todo) - survived}  survived {survived}  "
              f"seconds {time.monotonic() - began:.0f}")
        return 1 if survived else 0

    def survives(self, source, inside):
        """Whether the tests pass with it, in a fork of this process."""
        concerned = [item for item in self.calls if not inside or self.calls[item] & inside]
        concerned.sort(key=lambda item: ((inside, item) not in self.noticed, self.seconds[item]))
        child = os.fork()
        if child == 0:
            signal.alarm(PATIENCE)
            quiet()
            code = BROKEN
            with contextlib.suppress(BaseException):
                swap(source)
                code = next((i for i, item in enumerate(concerned, 1) if not passes(item)), 0)
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if 0 < code <= len(concerned):
            self.noticed.add((inside, concerned[code - 1]))
        return code == 0


def quiet():
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def passes(item):
    """Whether a test does; without pytest's report on why not, which takes longer than the test."""
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("error")
        item.obj(**(item.callspec.params if hasattr(item, "callspec") else {}))
        return True
    return False


def functions(source, line):
    """First lines of the outermost function around a line; none: it runs at import, and concerns all tests."""
    around = [n for n in ast.walk(ast.parse(source))
              if isinstance(n, ast.FunctionDef) and n.lineno <= line <= n.end_lineno]
    return frozenset(start.lineno for n in around for start in (n, *n.decorator_list))


def swap(source):
    """Another guard, for all who have imported from it."""
    module, old = mbrl_ros.ring.guard, dict(vars(mbrl_ros.ring.guard))
    exec(compile(source, module.__file__, "exec"), vars(module))
    for user in [m for name, m in sys.modules.items() if name in USERS]:
        for name, value in vars(user).items():
            if name in old and value is old[name]:
                setattr(user, name, getattr(module, name))


def main():
    p = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    p.add_argument("--only", default="1-100000", help="lines of guard.py")
    first, _, last = p.parse_args().only.partition("-")
    tests = Tests(int(first), int(last or first))
    pytest.main(["-qqs", "--no-header", "--no-summary", "-p", "no:cacheprovider", TESTS], plugins=[tests])
    return tests.code


if __name__ == "__main__":
    sys.exit(main())
