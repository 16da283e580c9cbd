"""What the world will do: global models of the dynamics. What is asked of them is in dynamics.py."""
from __future__ import annotations

from typing import Any

from mbrl_ros.models.ensemble import Ensemble
from mbrl_ros.models.gp import GaussianProcess
from mbrl_ros.models.linear import NoModel
from mbrl_ros.models.mixture import GlobalGaussian, Mixture
from mbrl_ros.models.network import BayesianNetwork, Network
from mbrl_ros.models.physics import Nominal
from mbrl_ros.models.probabilistic import ProbabilisticEnsemble

# Each is a Regression (features.py) with `Config` and `fit`; FeatureModel makes it a DynamicsModel, prior.py a prior.
MODELS: dict[str, Any] = {"ensemble": Ensemble, "network": Network, "bnn": BayesianNetwork,
                          "pe": ProbabilisticEnsemble, "gp": GaussianProcess, "mixture": Mixture,
                          "gaussian": GlobalGaussian, "nominal": Nominal, "none": NoModel}
