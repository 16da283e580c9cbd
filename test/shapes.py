"""Shapes of arrays are checked at every call, in tests: jaxtyping's annotations, and nothing but those."""
import builtins
import contextlib
import functools
import inspect
import types
import typing

from jaxtyping import AbstractArray, Bool, Float, Int, config, install_import_hook

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
    install_import_hook(ROOMS, 'shapes.check')


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
