"""Shapes of arrays are held against their types, in tests: jaxtyping's annotations, and nothing but those."""
import builtins
import contextlib
import dataclasses
import functools
import inspect
import re
import types
import typing

import jaxtyping
from jaxtyping import AbstractArray, Bool, Float, Int, config

# The rooms whose functions are ordinary Python; what is compiled (kernels/) cannot be wrapped.
ROOMS = [f'mbrl_ros.{room}' for room in (
    'types', 'gaussian', 'robot', 'models', 'task', 'planners', 'ring', 'environments', 'evaluation.swing_up',
    'trainers')]


def check_shapes():
    """
    Check all calls into these rooms from here on; to be called before any of them is imported.

    Most of them have the names of jaxtyping for type checkers only: its import takes a fifth of a second.
    """
    vars(builtins).update(Bool=Bool, Float=Float, Int=Int)
    jaxtyping.jaxtyped = functools.partial(sparing, jaxtyping.jaxtyped)  # what the hook decorates with
    jaxtyping.install_import_hook(ROOMS, 'shapes.check')


def sparing(jaxtyped, typechecker):
    """Return a decorator that leaves what has no shapes alone, and the rest where the same shapes have passed before:
    to hold every call against its types would take as long as all that the tests do."""

    def decorate(thing):
        if inspect.isclass(thing):
            if dataclasses.is_dataclass(thing) and '__init__' in vars(thing):
                thing.__init__ = decorate(thing.__init__)
            return thing
        for kind in (classmethod, staticmethod):
            if isinstance(thing, kind):
                return kind(decorate(thing.__func__))
        if isinstance(thing, property):
            return property(*(part and decorate(part) for part in (thing.fget, thing.fset, thing.fdel)))
        return thrifty(thing, jaxtyped(typechecker=typechecker)) if _annotated(thing) else thing

    return decorate


def _annotated(function):
    """Return the types that have shapes, by name, `return` for that of the result."""
    return {name: str(hint) for name, hint in function.__annotations__.items()
            if any(f'{kind.__name__}[' in str(hint) for kind in (Bool, Float, Int))}


def thrifty(function, jaxtyped):
    """Wrap a function: what `jaxtyped` makes of it is asked once for every combination of types and shapes."""
    hints = _annotated(function)
    names = {*hints, *re.findall(r'{(\w+)', ' '.join(hints.values()))}  # and of numbers that stand in shapes
    given = [(at, name) for at, name in enumerate(inspect.signature(function).parameters) if name in names]
    results, passed = [], {}

    def found(*args, **kwargs):
        return results.pop()

    # With the names of the function's module, which hints are texts of.
    found = types.FunctionType(found.__code__, function.__globals__, closure=found.__closure__)
    whole, result = jaxtyped(function), jaxtyped(functools.wraps(function)(found))

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        if config.jaxtyping_disable:
            return function(*args, **kwargs)
        key = tuple(_form(args[at] if at < len(args) else kwargs.get(name)) for at, name in given)
        known = passed.get(key)
        value = whole(*args, **kwargs) if known is None else function(*args, **kwargs)
        form = _form(value) if 'return' in hints else None
        if known is None:
            passed[key] = {form}
        elif form not in known:
            results.append(value)
            result(*args, **kwargs)
            known.add(form)
        return value

    return wrapped


def _form(value):
    """Return all that a hint may be held against."""
    if hasattr(value, 'shape'):
        return type(value), tuple(value.shape), value.dtype
    if isinstance(value, (tuple, list)):
        return tuple(map(_form, value))
    return value if isinstance(value, int) else type(value)


@contextlib.contextmanager
def unchecked():
    """Nothing is checked here: for what comes from outside, of any shape, until the code under test refuses it."""
    config.update('jaxtyping_disable', True)
    try:
        yield
    finally:
        config.update('jaxtyping_disable', False)


def check(function):
    """Decorate a function so that arguments and result are held against annotations of arrays."""
    annotations = {name: hint for name, hint in function.__annotations__.items() if _has_shape(hint)}
    if not annotations:
        return function
    # T + 1 can be held against an array only when another has said what T is.
    annotations = dict(sorted(annotations.items(), key=lambda item: (item[0] == 'return', '+' in str(item[1]))))
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args, **kwargs):
        given = signature.bind(*args, **kwargs).arguments
        result = function(*args, **kwargs)
        for name, hint in annotations.items():
            value = result if name == 'return' else given.get(name)
            if (name == 'return' or name in given) and not _fits(value, hint):
                raise TypeError(f'{name}: expected {hint}, got {getattr(value, "shape", value)!r}')
        return result
    return checked


def _has_shape(hint):
    return (inspect.isclass(hint) and issubclass(hint, AbstractArray)) or any(map(_has_shape, typing.get_args(hint)))


def _fits(value, hint):
    """Whether a value fits; of what is no array only the structure that leads to one is looked at."""
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if not _has_shape(hint):
        return hint is not type(None) or value is None
    if kind in (typing.Union, types.UnionType):
        return value is None if value is None and type(None) in parts else any(
            _fits(value, part) for part in parts if part is not type(None))
    if kind is tuple and parts[-1] is not Ellipsis:
        return isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
    if kind in (tuple, list):
        return all(_fits(item, parts[0]) for item in value)
    return isinstance(value, hint)
