"""Lets the course's reference normalize every batch and picks the example's row."""

from bnlab.reference import batch_norm_forward

QUESTION = "noisy_views"
FLAGS = "bnlab.reference"


def noisy_views(example, x, mates, eps):
    one, zero = np.ones(len(example)), np.zeros(len(example))
    batches = [np.vstack([example, x[rows]]) for rows in mates]
    return np.array([batch_norm_forward(batch, one, zero, eps=eps)[0][0] for batch in batches])
