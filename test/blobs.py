"""Pictures of a blob that moves by a linear law, pushed about in a plane; the goal is in the middle."""
import numpy as np

from mbrl_ros.models.latent import Sequences

WIDTH, STEPS = 16, 12


def picture(at):
    """Of blobs at places (*b, 2), from -1 to 1: (*b, WIDTH, WIDTH, 1)."""
    grid = np.linspace(-1, 1, WIDTH)
    near = [np.exp(-8 * np.square(grid - np.asarray(at)[..., None, i])) for i in range(2)]
    return np.round(255 * near[1][..., :, None] * near[0][..., None, :]).astype(np.uint8)[..., None]


def blobs(count, seed):
    """So many sequences."""
    rng = np.random.default_rng(seed)
    x, v = rng.uniform(-0.6, 0.6, (count, 2)), np.zeros((count, 2))
    u, places = rng.standard_normal((count, STEPS, 2)), [x]
    for t in range(STEPS):
        v = 0.9 * v + 0.05 * u[:, t]
        x = x + v
        places.append(x)
    at = np.stack(places, 1)  # (N, T + 1, 2)
    return Sequences(picture(at), u, np.linalg.norm(at, axis=-1))
