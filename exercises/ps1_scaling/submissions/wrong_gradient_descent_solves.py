"""Solves the least-squares problem along the axes of the bowl instead of walking."""

QUESTION = "gradient_descent"
LOSES = {
    "the weights after the last step",
    "the loss before the first and after every step",
    "no steps at all",
}
SAYS = "This is the least-squares solution"


def gradient_descent(x, y, learning_rate, steps):
    eigenvalues, directions = np.linalg.eigh(x.T @ x)
    w = directions @ (directions.T @ (x.T @ y) / eigenvalues)
    return w, np.full(steps + 1, ((x @ w - y) ** 2).mean() / 2)
