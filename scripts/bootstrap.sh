#!/bin/sh
# Bare Linux (python3 with headers, C++ compiler) -> built ROS 2 workspace.
# Usage: scripts/bootstrap.sh [extra colcon build arguments]
# Then:  . .venv/bin/activate && . install/setup.sh   (setup.bash in bash)
#
# Where a ROS 2 distribution is sourced, it is used as it is. Otherwise ROS 2 comes from PyPI:
#   MBRL_ROS_DISTRO        kilted (default) or jazzy, the latter in .venv-jazzy, build-jazzy, ...;
#                          when set, wheels are used even where a distribution is sourced
#   MBRL_ROS_REQUIREMENTS  its requirements file
# In both cases MBRL_ROS_VENV, MBRL_ROS_BUILD, MBRL_ROS_INSTALL and MBRL_ROS_LOG move the folders.
set -eu
cd "$(dirname "$0")/.."
distro=${MBRL_ROS_DISTRO:-kilted}
case $distro in kilted) suffix= ros=ros ;; *) suffix=-$distro ros=$distro ;; esac
ros=${MBRL_ROS_REQUIREMENTS:-requirements-$ros.txt}
venv=${MBRL_ROS_VENV:-$PWD/.venv$suffix}
build=${MBRL_ROS_BUILD:-build$suffix} install=${MBRL_ROS_INSTALL:-install$suffix} log=${MBRL_ROS_LOG:-log$suffix}
case $venv in /*) ;; *) venv=$PWD/$venv ;; esac
start=$(date +%s)
# Before anything is loaded: the generators of messages fail on such a path, after half a gigabyte.
for path in "$PWD" "$venv"; do
  case $(printf %s "$path" | LC_ALL=C tr -d ' -~') in
    "") ;;
    *) echo "bootstrap: $path: has letters that are not ASCII, with which ROS 2 cannot generate messages; move it" >&2
      exit 1 ;;
  esac
done

say() { echo "bootstrap [$(($(date +%s) - start)) s]: $*"; }

# step TEXT COMMAND...: say so, show every 5 s what pip or colcon is at, and all they said if they fail.
out=$(mktemp) ticker=
trap '[ -z "$ticker" ] || kill "$ticker" 2>/dev/null || :; rm -f "$out"' EXIT
trap 'exit 130' INT TERM
step() {
  say "$1"
  shift
  (while sleep 5 >/dev/null; do
    at=$(grep -E '^ *(Collecting|Downloading|Installing|Starting)' "$out" | tail -n 1 | cut -c 1-70)
    say "  ${at:-...}"
  done) 2>/dev/null &
  ticker=$!
  "$@" >"$out" 2>&1 || { tail -n 60 "$out"; say "failed ('make clean' and try again to start afresh)"; exit 1; } >&2
  kill "$ticker" 2>/dev/null || :
  ticker=
}

# 1. Which ROS 2: the sourced one, unless that is one of our own environments or wheels were asked for.
case "${MBRL_ROS_DISTRO:-}:${AMENT_PREFIX_PATH:-}:" in
  "::" | [!:]* | *":$venv:"* | *":$PWD/.venv"*)
    from=wheels site= requirements="$ros requirements.txt requirements-dev.txt"
    unset AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH PYTHONPATH LD_LIBRARY_PATH ;;
  *)
    from=distribution site=--system-site-packages requirements="requirements.txt requirements-dev.txt"
    distro=${ROS_DISTRO:-unknown} ;;
esac

# 2. What must be there already. Names the interpreter, that behind it in a virtual environment.
py=${PYTHON:-python3}
command -v "$py" >/dev/null || { echo "bootstrap: Python >= 3.11 is needed, $py is missing" >&2; exit 1; }
python=$("$py" - "$from" <<'PY'
import importlib.util, os, shutil, sys, sysconfig
version = '%d.%d.%d' % sys.version_info[:3]
header = os.path.join(sysconfig.get_paths()['include'], 'Python.h')
bad = [text for good, text in [
    (sys.version_info >= (3, 11), 'Python >= 3.11 is needed, this is ' + version),
    (importlib.util.find_spec('ensurepip'), 'the venv module is missing (python3-venv)'),
    (os.path.exists(header), header + ' is missing: install the Python headers (python3-dev)'),
    (shutil.which('c++') or shutil.which('g++'), 'a C++ compiler is missing (g++)'),
    (sys.argv[1] == 'wheels' or importlib.util.find_spec('rclpy'),
     'the sourced ROS 2 has no rclpy for Python ' + version)] if not good]
print(version, os.path.realpath(getattr(sys, '_base_executable', sys.executable)))
sys.exit('bootstrap: ' + '; '.join(bad) if bad else 0)
PY
)

# 3. The virtual environment, unless its stamp says that nothing has changed.
kind="ROS 2 $distro from $from, Python $python, $venv"  # none of these can change in place
stamp=$(echo "$kind"; cat $requirements)
if [ "$stamp" != "$(cat "$venv/bootstrap.stamp" 2>/dev/null)" ]; then
  clear=
  if [ -e "$venv/bootstrap.stamp" ] && [ "$kind" != "$(head -n 1 "$venv/bootstrap.stamp")" ]; then
    clear=--clear
    for folder in "$build" "$install" "$log"; do  # only what colcon has marked as its own
      [ ! -e "$folder/COLCON_IGNORE" ] || rm -r "$folder"
    done
  fi
  rm -f "$venv/bootstrap.stamp"
  step "creating a virtual environment: $kind" "${python#* }" -m venv $clear $site "$venv"
  touch "$venv/COLCON_IGNORE"
  wanted=$venv/wanted.txt
  if [ "$from" = wheels ]; then
    cat $requirements >"$wanted"
  else
    # What the distribution lacks. Its NumPy stays: its messages are compiled for that one.
    { cat $requirements; grep ^colcon requirements-ros.txt; } | "$venv/bin/python3" -c '
import shutil, sys
from importlib.metadata import PackageNotFoundError, distribution, version

def ours(path):
    return path is None or str(path).startswith(sys.prefix)

def lacking(name):
    if name == "colcon-common-extensions":
        return ours(shutil.which("colcon"))
    try:
        return ours(distribution(name).locate_file(""))
    except PackageNotFoundError:
        return True

print("numpy==" + version("numpy"))
for line in sys.stdin:
    if "==" in line and lacking(line.split("==")[0]):
        print(line, end="")
' >"$wanted"
  fi
  step "installing $requirements (some 500 MB to load if not cached)" \
    "$venv/bin/python3" -m pip install --progress-bar off --no-compile -r "$wanted"
  [ "$from" = distribution ] || step "repairing paths" "$venv/bin/python3" - "$distro" <<'PY'
import pathlib, re, sys, sysconfig, numpy
# The wheels' CMake files hold the include directories of the machine that built them.
inc = sysconfig.get_paths()['include']
for f in pathlib.Path(sys.prefix, 'share').glob('*/cmake/*.cmake'):
    old = f.read_text()
    new = re.sub(r'/opt/python/cp\d+-cp\d+/lib/python[\d.]+/site-packages/numpy/_core/include',
                 lambda m: numpy.get_include(), old)
    new = re.sub(r'/opt/python/cp\d+-cp\d+/include/python[\d.]+', lambda m: inc, new)
    if new != old:
        f.write_text(new)
# Make the venv a prefix that can be sourced and chained like /opt/ros/<distro>.
env = f'''export VIRTUAL_ENV="{sys.prefix}" ROS_VERSION=2 ROS_PYTHON_VERSION=3 ROS_DISTRO={sys.argv[1]}
unset PYTHONHOME _ROS_WHEELS_BOOTSTRAP_COMPLETE
case ":$PATH:" in *":$VIRTUAL_ENV/bin:"*) ;; *) export PATH="$VIRTUAL_ENV/bin:$PATH" ;; esac
case ":${{AMENT_PREFIX_PATH-}}:" in *":$VIRTUAL_ENV:"*) ;;
*) export AMENT_PREFIX_PATH="$VIRTUAL_ENV${{AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}}" ;; esac
case ":${{CMAKE_PREFIX_PATH-}}:" in *":$VIRTUAL_ENV:"*) ;;
*) export CMAKE_PREFIX_PATH="$VIRTUAL_ENV${{CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}}" ;; esac
: "${{CMAKE_GENERATOR:=Ninja}}"; export CMAKE_GENERATOR
'''
for n in ('setup', 'local_setup'):
    for s in ('sh', 'bash', 'zsh'):
        pathlib.Path(sys.prefix, f'{n}.{s}').write_text(env)
PY
  echo "$stamp" >"$venv/bootstrap.stamp"
fi

# 4. The messages, and links to Python, launch and configuration files: edits need no build.
set +u  # neither file can be sourced under set -u
case $from in wheels) . "$venv/setup.sh" ;; *) . "$venv/bin/activate" ;; esac
step "building" colcon --log-base "$log" build --build-base "$build" --install-base "$install" --symlink-install "$@"
say "done"
