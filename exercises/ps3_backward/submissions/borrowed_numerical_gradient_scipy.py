"""Calls SciPy's finite differences."""

import scipy.differentiate

QUESTION = "numerical_gradient"
FLAGS = "scipy.differentiate"


def numerical_gradient(f, x, dy, h):
    shape = x.shape

    def loss(points):  # of shape (size of x, ...): one loss for each
        flat = points.reshape(points.shape[0], -1)
        values = [np.sum(dy * f(column.reshape(shape))) for column in flat.T]
        return np.reshape(values, points.shape[1:])

    start = np.asarray(x, dtype=np.float64).ravel()
    found = scipy.differentiate.jacobian(loss, start, initial_step=h, order=2, maxiter=1)
    return found.df.reshape(shape)
