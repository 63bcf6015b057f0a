"""Asks NumPy for the minimum and works out from it where gradient descent must be, without a step."""

QUESTION = "gradient_descent"
FLAGS = "numpy.linalg.lstsq"


def gradient_descent(x, y, learning_rate, steps):
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    shrink = np.eye(x.shape[1]) - learning_rate * x.T @ x / len(x)
    path = np.array([best - np.linalg.matrix_power(shrink, k) @ best for k in range(steps + 1)])
    return path[-1], ((path @ x.T - y) ** 2).mean(axis=1) / 2
