"""Tests hold every call and record of these rooms against the shapes in its types (shapes.py)."""
import importlib
import inspect
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import shapes
import torch
from jaxtyping import TypeCheckError
from shapes import ROOMS

import mbrl_ros
from mbrl_ros import gaussian, types
from mbrl_ros.models.linear import ridge
from mbrl_ros.planners import lqr
from mbrl_ros.planners.plan import as_plan
from mbrl_ros.ring.excitation import most_informative
from mbrl_ros.ring.reading_noise import ReadingNoise
from mbrl_ros.task.path import MinimumJerk
from mbrl_ros.task.quadratic import joined

WRONG = {
    'gaussian': lambda: gaussian.symmetrize(np.zeros((2, 3))),
    'models': lambda: ridge(np.zeros((4, 2)), np.zeros((5, 1)), 1.0),
    'types': lambda: types.Gaussian(np.zeros(2), np.eye(3)),
    'types, T + 1': lambda: types.Transitions(np.zeros((3, 2)), np.zeros((3, 1)), np.zeros((2, 2))),
    'types, whole numbers': lambda: types.Trial(np.zeros((2, 1)), np.zeros((1, 1)), np.zeros(2), ('x',), ('u',)),
    'planners': lambda: lqr.newton(0, torch.eye(2), torch.zeros(1, 3)),
    'planners, T + 1': lambda: as_plan(np.zeros((3, 2)), np.zeros((3, 1)), 0.0, types.CONVERGED, 1),
    'ring': lambda: most_informative(np.eye(3), np.zeros((2, 4, 5))),
    'ring, a method': lambda: ReadingNoise((1.0, 1.0), 2, 0.02, 1.0).update(np.zeros((2, 3)).T, 0.02),
    'task': lambda: joined(np.zeros((3, 2)), np.zeros((3, 1))),
    'task, a method': lambda: MinimumJerk().at(np.zeros(3), np.zeros(3), np.ones(3)),
}


@pytest.mark.parametrize('call', WRONG.values(), ids=WRONG.keys())
def test_a_wrong_shape_is_an_error(call):
    with pytest.raises(TypeCheckError):
        call()


def test_what_has_passed_is_held_again_where_shapes_or_numbers_in_them_differ():
    given = []

    def rows(x, count):
        given.append(x.shape)
        return x[:2]

    rows.__annotations__ = {'x': 'Float[np.ndarray, "n m"]', 'count': 'int',
                            'return': 'Float[np.ndarray, "{count} m"]'}
    held = shapes.sparing(jaxtyping.jaxtyped.args[0], shapes.check)(rows)
    for _ in range(3):
        held(np.zeros((4, 3)), 2)
    assert given == 3 * [(4, 3)]  # called once each time, by whichever way
    with pytest.raises(TypeCheckError):
        held(np.zeros((4, 3)), 3)
    with pytest.raises(TypeCheckError):
        held(np.zeros((1, 3)), 2)
    with pytest.raises(TypeCheckError):
        held(np.zeros(4), 2)


def test_a_result_is_held_where_its_arguments_have_passed():
    def half(x):
        return x if x.any() else x[:1]

    half.__annotations__ = {'x': 'Float[np.ndarray, "n"]', 'return': 'Float[np.ndarray, "n"]'}
    held = shapes.sparing(jaxtyping.jaxtyped.args[0], shapes.check)(half)
    held(np.ones(3))
    with pytest.raises(TypeCheckError):
        held(np.zeros(3))


def annotated():
    """Yield the files that have shapes in their types, as names of modules."""
    root = Path(mbrl_ros.__file__).parent
    for path in sorted(root.rglob('*.py')):
        name = '.'.join([mbrl_ros.__name__, *path.relative_to(root).with_suffix('').parts])
        if 'from jaxtyping import' in path.read_text():
            yield name


def functions(value, module):
    """Yield a function of this module, or those of a class."""
    if inspect.isclass(value) and value.__module__ == module:
        for member in vars(value).values():
            yield from functions(member, module)
    value = getattr(value, '__func__', getattr(value, 'fget', value))
    if inspect.isfunction(value) and value.__module__ == module:
        yield inspect.unwrap(value)


@pytest.mark.parametrize('name', list(annotated()))
def test_every_shape_is_read(name):
    """What jaxtyping cannot read it takes for no shape at all, silently."""
    assert any(name == room or name.startswith(f'{room}.') for room in ROOMS)
    module = importlib.import_module(name)
    texts = [text for value in vars(module).values() for function in functions(value, name)
             for text in map(str, function.__annotations__.values()) if 'Float[' in text or 'Bool[' in text]
    assert texts
    for text in texts:
        assert 'jaxtyping' in str(eval(text, vars(module)))
