# 'make help' lists the targets. scripts/bootstrap.sh does the building.
.PHONY: help bootstrap demo report replay scenarios scenarios-full arms loops planners pets skills dyna dyna-paper \
	pixels faults soak mutants figures bench test test-jazzy lint docs clean

use = . ./.venv/bin/activate && . ./install/setup.sh
# Jazzy is tested beside, and apart from, whatever is sourced.
jazzy = env -u AMENT_PREFIX_PATH -u CMAKE_PREFIX_PATH -u COLCON_PREFIX_PATH -u PYTHONPATH -u LD_LIBRARY_PATH \
	MBRL_ROS_DISTRO=jazzy sh -ec
use_jazzy = scripts/bootstrap.sh; . ./.venv-jazzy/bin/activate; . ./install-jazzy/setup.sh
topics = python3 -m pytest --reruns 1 test/ros
demo_flags = $(if $(SEED),--seed $(SEED)) $(if $(ROBOT),--robot $(ROBOT)) $(if $(TASK),--task $(TASK)) \
	$(if $(PLANNER),--planner $(PLANNER)) $(if $(PRIOR),--prior $(PRIOR)) \
	$(if $(TARGETS),--targets $(TARGETS)) $(if $(DATA_SECONDS),--data-seconds $(DATA_SECONDS)) \
	$(if $(DASHBOARD),--dashboard $(DASHBOARD))

suite_flags = $(if $(ONLY),--only $(ONLY)) $(if $(ROBOTS),--robots $(ROBOTS)) $(if $(PRIORS),--priors $(PRIORS)) \
	$(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS))

# What may be given to a target; anything else is a mistake and would be ignored.
takes.demo = SEED ROBOT TASK PLANNER PRIOR TARGETS DATA_SECONDS DASHBOARD
takes.report = RECORDING
takes.replay = RECORDING
takes.scenarios = ONLY ROBOTS PRIORS SEEDS JOBS
takes.scenarios-full = $(takes.scenarios)
takes.arms = ONLY SEEDS TARGETS DATA_SECONDS JOBS
takes.loops = ROBOT PRIOR SEEDS JOBS
takes.pets = ONLY SEEDS JOBS
takes.skills = ONLY SEEDS JOBS
takes.dyna = ONLY METHODS SEEDS JOBS CLUSTER RESUME
takes.dyna-paper = $(takes.dyna)
takes.pixels = ONLY SEEDS JOBS
takes.faults = TICKS SEED ROBOT
takes.soak = MINUTES ROBOT PRIOR
takes.planners = ONLY SEEDS ROBOT JOBS
takes.bench = ONLY
takes.figures = ONLY SEEDS
given = $(foreach word,$(MAKEOVERRIDES),$(if $(findstring =,$(word)),$(firstword $(subst =, ,$(word)))))
$(foreach goal,$(MAKECMDGOALS),$(if $(takes.$(goal)),$(foreach name,$(filter-out $(takes.$(goal)) MBRL_% ROS_% PYTHON,\
	$(given)),$(error $(name): unknown variable; make $(goal) takes $(takes.$(goal))))))

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1: /p' Makefile

bootstrap: ## environment, ROS 2 and messages; quick when there is nothing to do
	@scripts/bootstrap.sh

demo: bootstrap ## the whole thing on a simulated robot; SEED= ROBOT= TASK= PLANNER= PRIOR= TARGETS= DATA_SECONDS= DASHBOARD=
	@$(use) && python3 -m mbrl_ros.nodes demo $(demo_flags)

report: bootstrap ## a page about a recording: what stood out, charts, parameters; RECORDING= (the newest in runs/)
	@$(use) && python3 -m mbrl_ros.nodes report $(RECORDING)

replay: bootstrap ## the same inputs through the same code again: are the answers identical? RECORDING= (the newest)
	@$(use) && python3 -m mbrl_ros.nodes replay $(RECORDING)

scenarios: bootstrap ## what it does when robot, load and surroundings change: two robots, a few minutes; ONLY= ROBOTS=
	@$(use) && python3 -m mbrl_ros.evaluation.suite $(suite_flags)

scenarios-full: bootstrap ## all scenarios on four robots with ten seeds: many hours
	@$(use) && python3 -m mbrl_ros.evaluation.suite --full $(suite_flags)

arms: bootstrap ## public arms from their model files alone: a table, 20 minutes; ONLY= SEEDS= TARGETS= DATA_SECONDS= JOBS=
	@$(use) && python3 -m mbrl_ros.evaluation.arms $(if $(ONLY),--only $(ONLY)) $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(TARGETS),--targets $(TARGETS)) $(if $(DATA_SECONDS),--data-seconds $(DATA_SECONDS)) \
		$(if $(JOBS),--jobs $(JOBS))

loops: bootstrap ## plan once, plan and refit per trial, or replan every tick: cost by trial; ROBOT= PRIOR= SEEDS= JOBS=
	@$(use) && python3 -m mbrl_ros.evaluation.loops $(if $(ROBOT),--robot $(ROBOT)) $(if $(PRIOR),--prior $(PRIOR)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS))

pets: bootstrap ## PETS over trials, cart-pole and arm, and what its parts are for: up to an hour; ONLY= SEEDS= JOBS=
	@$(use) && OMP_NUM_THREADS=1 python3 -m mbrl_ros.trainers.study $(if $(ONLY),--only $(ONLY)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS))

skills: bootstrap ## contact tasks by trials: peg, door, block, beside MPC, an hour; ONLY=peg: 3 minutes; SEEDS= JOBS=
	@$(use) && OMP_NUM_THREADS=1 python3 -m mbrl_ros.trainers.skills $(if $(ONLY),--only $(ONLY)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS))

dyna: bootstrap ## learning in imagination, each method beside its parent: three hours; ONLY= METHODS= SEEDS= JOBS= CLUSTER= RESUME=
dyna-paper: bootstrap ## MBPO beside SAC on Hopper, Walker2d and HalfCheetah: days; ONLY=hopper_10k: hours; as dyna
dyna-paper: ONLY ?= hopper,walker,cheetah
dyna dyna-paper:
	@$(use) && OMP_NUM_THREADS=1 python3 -m mbrl_ros.trainers.imagination $(if $(ONLY),--only $(ONLY)) \
		$(if $(METHODS),--methods $(METHODS)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS)) \
		$(if $(CLUSTER),--cluster $(CLUSTER)) $(if $(RESUME),--resume $(RESUME))

pixels: bootstrap ## reaching by what a camera sees, three ways and on the state beside: hours; ONLY=solar SEEDS=0: ten minutes; JOBS=
	@$(use) && OMP_NUM_THREADS=1 python3 -m mbrl_ros.trainers.pixels $(if $(ONLY),--only $(ONLY)) \
		$(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS))

faults: bootstrap ## seeded faults into the guard and the ring behind it; TICKS= (10000) SEED= ROBOT=
	@$(use) && PYTHONPATH=.:test:$$PYTHONPATH python3 test/faults/inject.py $(if $(TICKS),--ticks $(TICKS)) \
		$(if $(SEED),--seed $(SEED)) $(if $(ROBOT),--robot $(ROBOT))

soak: bootstrap ## hours of reaching, a process per node: does anything grow, or get lost? MINUTES= (60) ROBOT= PRIOR=
	@$(use) && PYTHONPATH=.:$$PYTHONPATH python3 test/faults/soak.py $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(ROBOT),--robot $(ROBOT)) $(if $(PRIOR),--prior $(PRIOR))

mutants: bootstrap ## does a test fail for every change to guard.py?
	@$(use) && PYTHONPATH=.:test:$$PYTHONPATH python3 test/faults/mutate.py

planners: bootstrap ## every planner on the same problems: a table, 20 minutes; ONLY= SEEDS= ROBOT= JOBS=
	@$(use) && python3 -m mbrl_ros.evaluation.planners $(if $(ONLY),--only $(ONLY)) $(if $(SEEDS),--seeds $(SEEDS)) \
		$(if $(ROBOT),--robot $(ROBOT)) $(if $(JOBS),--jobs $(JOBS))

figures: bootstrap ## measures for README and results anew, and writes their tables: hours; ONLY= SEEDS=
	@$(use) && python3 scripts/figures.py --run $(or $(ONLY),all) $(if $(SEEDS),--seeds $(SEEDS))

bench: bootstrap ## how long a tick takes, part by part, beside its peers; ONLY=
	@$(use) && OMP_NUM_THREADS=1 python3 benchmarks/bench.py $(if $(ONLY),--only $(ONLY))

test: lint docs ## lint, docs, all tests, and the tests with ROS on Jazzy as well, but for slow ones
	@$(use) && python3 -m pytest -n auto --ignore=test/ros && $(topics)
	@$(jazzy) '$(use_jazzy); $(topics) -m "not slow"'

test-jazzy: ## all tests with ROS on Jazzy
	@$(jazzy) '$(use_jazzy); $(topics)'

docs: bootstrap ## docs/_build/html: the documentation, built without a network once its four packages are there
	@$(use) && { python3 -c 'import furo, latex2mathml, myst_parser' 2>/dev/null || \
		python3 -m pip install -q -r requirements-docs.txt; } && python3 scripts/reference.py --check && \
		python3 -m sphinx -W -q -b html docs docs/_build/html && echo docs/_build/html/index.html

lint: bootstrap ## ruff and mypy
	@$(use) && ruff check . && mypy

clean: ## delete environments, builds and caches, not recordings
	rm -rf .venv .venv-jazzy build build-jazzy install install-jazzy log log-jazzy
	rm -rf docs/_build .pytest_cache .mypy_cache .ruff_cache .cache
