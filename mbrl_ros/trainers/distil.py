"""One network from several: from policies that each know one task, and from the members of a model.

What is taught is soft: not only the mean of a teacher but how sure it is. For Gaussians the sum of divergences
KL(teacher || student) over inputs is least where the mean is that by regression weighted with the student's precision,
and its covariance the mean of the teachers' with what is missing of their means (Hinton, Vinyals & Dean 2015 have the
same for classes).
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mbrl_ros.models.ensemble import Training
from mbrl_ros.models.features import Data, scale_of
from mbrl_ros.models.network import Network
from mbrl_ros.ring.network_policy import View
from mbrl_ros.ring.policy import Policy
from mbrl_ros.trainers.regression import Wanted
from mbrl_ros.types import Array, Trial

if TYPE_CHECKING:
    from jaxtyping import Float


def asked(policy: Policy, trials: Sequence[Trial], target: Float[Array, " 3"], view: View) -> Wanted:
    """What a policy with noise of positive definite covariance would do at all states of these trials, its task told
    by the target."""
    x = [trial.x[t] for trial in trials for t in range(len(trial.u))]
    said = [policy.act(trial.x[t], t) for trial in trials for t in range(len(trial.u))]
    u, Sigma = (np.array(column) for column in zip(*said, strict=True))
    return Wanted(view(np.array(x), target), u, np.linalg.inv(Sigma))


def one_model(model: Any, data: Data, config: Training, seed: int, copies: int = 4, spread: float = 0.3) -> Network:
    """One network that predicts like a model with members, mean and covariance: a prior of a tick at a part of their
    time. It is asked at the data, and at copies of them moved by `spread` deviations at random, where members differ.
    """
    rng, scale = np.random.default_rng(seed), scale_of(data.w)[1]
    moved = [data.w + spread * scale * rng.standard_normal(data.w.shape) for _ in range(copies)]
    w = np.stack([data.w, *moved], 1).reshape(-1, data.w.shape[-1])  # neighbours in time stay neighbours
    said = model.predict(torch.as_tensor(w))
    student = Network.fit(replace(data, w=w, y=said.mean.numpy()), config, seed)
    missing = said.mean - student.mean(torch.as_tensor(w))
    R = said.cov.expand(*missing.shape, missing.shape[-1]).mean(0) + missing.mT @ missing / len(missing)
    return replace(student, R=R)
