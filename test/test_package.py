"""The package agrees with itself: build files, executables, messages, and which module may import which."""
import ast
import os
import re
import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[1]
CMAKE = (ROOT / 'CMakeLists.txt').read_text()
MODULES = sorted((ROOT / 'mbrl_ros').rglob('*.py'))
EXECUTABLES = re.findall(r'^ +(\w+)=(\w+)$', CMAKE, re.MULTILINE)  # (name, module in mbrl_ros.nodes)

# Files and folders of mbrl_ros from the ground up: each imports from itself and from those before it.
ROOMS = ['types', 'kernels', 'config', 'options', 'gaussian', 'model_file', 'robot', 'messages', 'models', 'task',
         'planners', 'simulation', 'ring', 'assembly', 'setup_robot', 'calibrate', 'recordings', 'evaluation',
         'drawing', 'environments', 'trainers', 'train', 'dashboard', 'nodes']
LEVEL = {room: level for level, room in enumerate(ROOMS)}
GENERATED = re.compile(r'(\w+_(msgs|srvs|interfaces)|mbrl_ros\.(msg|srv|action))(\.|$)')


def imports(path):
    """Return the dotted names that a file imports, anywhere in it; `from a import b` gives a.b."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[:len(package) - node.level + 1] if node.level else ()
            source = '.'.join([*start, *filter(None, [node.module])])
            found.update(f'{source}.{alias.name}' for alias in node.names)
    return found


def part(dotted):
    """Return the hand-written file or folder of mbrl_ros that a dotted name belongs to, or None."""
    names = dotted.split('.')
    return names[1] if names[0] == 'mbrl_ros' and names[1:] and not GENERATED.match(dotted) else None


def part_of(path):
    return path.relative_to(ROOT / 'mbrl_ros').parts[0].removesuffix('.py')


def named(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize('path', [path for path in MODULES if part_of(path) != '__init__'], ids=named)
def test_imports_go_downward(path):
    mine = part_of(path)
    assert mine in LEVEL, f'{mine} has no place in ROOMS'
    for name in imports(path):
        other = part(name)
        assert other is None or other in LEVEL, f'{name}: {other} has no place in ROOMS'
        assert other is None or LEVEL[other] <= LEVEL[mine], f'{mine} must not import {name}'


def files_imported(path):
    """Return the files of mbrl_ros that a file imports; a folder's name is its __init__.py."""
    found = set()
    for name in imports(path):
        names = name.split('.')
        if names[0] != 'mbrl_ros' or GENERATED.match(name):
            continue
        for end in (len(names), len(names) - 1):  # the last may be a thing in a file
            base = ROOT.joinpath(*names[:end])
            hits = [f for f in (base.with_suffix('.py'), base / '__init__.py') if f.is_file()]
            if hits:
                found.update(hits)
                break
    return found - {path}


def test_no_import_cycles_by_files():
    try:
        TopologicalSorter({path: files_imported(path) for path in MODULES}).prepare()
        cycle = []
    except CycleError as error:
        cycle = [named(path) for path in error.args[1]]
    assert not cycle, ' imports '.join(reversed(cycle))


@pytest.mark.parametrize('path', [path for path in MODULES if part_of(path) != 'nodes'], ids=named)
def test_core_is_free_of_ros(path):
    for name in imports(path):
        assert not name.startswith('rclpy') and not GENERATED.match(name), f'{named(path)} imports {name}'


def test_a_new_module_works_in_a_linked_install_before_the_next_build(tmp_path):
    source, install = tmp_path / 'source' / 'mbrl_ros', tmp_path / 'install' / 'mbrl_ros'
    for folder in (source / 'models', install / 'models', install / 'msg'):
        folder.mkdir(parents=True)
    (source / '__init__.py').write_text((ROOT / 'mbrl_ros' / '__init__.py').read_text())
    (source / 'models' / '__init__.py').write_text('import mbrl_ros.models.new')
    (source / 'models' / 'new.py').touch()
    (install / 'msg' / '__init__.py').touch()
    for name in ('__init__.py', 'models/__init__.py'):
        (install / name).symlink_to(source / name)
    done = subprocess.run([sys.executable, '-c', 'import mbrl_ros.models, mbrl_ros.msg'], cwd=tmp_path,
                          env={**os.environ, 'PYTHONPATH': str(install.parent)})
    assert done.returncode == 0


def test_nothing_hides_the_generated_interfaces():
    names = {path.stem for path in (ROOT / 'mbrl_ros').iterdir()}
    assert not names & {'msg', 'srv', 'action'}


@pytest.mark.parametrize(('name', 'module'), EXECUTABLES)
def test_executable_has_its_module(name, module):
    path = ROOT / 'mbrl_ros' / 'nodes' / f'{module}.py'
    assert path.is_file(), f'{name} in CMakeLists.txt calls {named(path)}'
    assert 'main' in {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_node_is_an_executable():
    nodes = {path.stem for path in (ROOT / 'mbrl_ros' / 'nodes').glob('*_node.py')}
    assert nodes <= {module for _, module in EXECUTABLES}


def test_every_message_is_generated():
    listed = re.findall(r'"(msg/\w+\.msg)"', CMAKE)
    assert sorted(listed) == sorted(named(path) for path in (ROOT / 'msg').glob('*.msg'))


def test_message_packages_are_declared():
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    declared = {entry.text for tag in ('depend', 'exec_depend') for entry in package.findall(tag)}
    used = {name.split('.')[0] for path in MODULES for name in imports(path)}
    used = {name for name in used if name == 'rclpy' or GENERATED.match(name)}
    assert used <= declared


def test_setup_finds_every_folder():
    """Those without an __init__.py are left out of a pip install, and nothing says so."""
    assert {path.parent for path in MODULES} == {path.parent for path in MODULES if path.name == '__init__.py'}


def test_versions_agree():
    output = subprocess.check_output([sys.executable, 'setup.py', '--version'], cwd=ROOT, text=True)
    assert output.split()[-1] == ElementTree.parse(ROOT / 'package.xml').findtext('version')


def test_the_maintainer_is_no_example_and_the_changelog_knows_the_version():
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    assert 'example' not in package.find('maintainer').get('email')
    assert f"## {package.findtext('version')}\n" in (ROOT / 'CHANGELOG.md').read_text()


def test_the_core_is_found_and_works_from_a_pip_install(tmp_path):
    """Of a copy, since setuptools builds beside the sources; with its settings, and without ROS."""
    source, target = tmp_path / 'source', tmp_path / 'site'
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns('.*', 'build*', 'install*', 'log*', 'docs', 'test'))
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--no-build-isolation', '--target',
                    str(target), str(source)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    code = ('from mbrl_ros import config; from mbrl_ros.config import Names, from_mapping;'
            'from mbrl_ros.robot import Config, Robot;'
            'settings = Names(robot="planar2", prior="gaussian").settings(); import mbrl_ros;'
            'robot = Robot(from_mapping(Config, settings["robot"], "robot")); robot.tool_position(robot.home);'
            'print(mbrl_ros.__file__, config.share(), settings["robot"]["model"])')
    environment = {k: v for k, v in os.environ.items() if k != 'AMENT_PREFIX_PATH'}
    kept = [p for p in os.environ.get('PYTHONPATH', '').split(os.pathsep) if 'mbrl_ros' not in p]
    output = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, check=True, text=True, stdout=subprocess.PIPE,
                            env={**environment, 'PYTHONPATH': os.pathsep.join([str(target), *kept])}).stdout.split()
    assert all(path.startswith(str(target)) for path in output), output


def test_a_path_that_is_not_ascii_is_refused_before_anything_is_loaded(tmp_path):
    folder = tmp_path / 'bücher' / 'scripts'
    folder.mkdir(parents=True)
    shutil.copy(ROOT / 'scripts' / 'bootstrap.sh', folder)
    done = subprocess.run(['sh', str(folder / 'bootstrap.sh')], text=True, capture_output=True,
                          env={k: v for k, v in os.environ.items() if not k.startswith('MBRL_ROS_')})
    assert done.returncode == 1 and done.stderr.count('\n') == 1 and 'not ASCII' in done.stderr
    assert not list(folder.parent.glob('.venv*'))


def test_what_nodes_import_needs_no_extra():
    """Drawing is one, and took a tenth of the time in which a node started."""
    code = 'import sys, mbrl_ros.assembly, mbrl_ros.trainers; print(*sys.modules)'
    loaded = subprocess.check_output([sys.executable, '-c', code], cwd=ROOT, text=True).split()
    assert not {'matplotlib', 'gpytorch', 'viser', 'ray', 'gymnasium'} & set(loaded)
