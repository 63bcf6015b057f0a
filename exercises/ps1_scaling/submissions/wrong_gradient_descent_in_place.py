"""Moves the targets instead of the residual: the caller's y changes."""

QUESTION = "gradient_descent"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input y in place"


def gradient_descent(x, y, learning_rate, steps):
    w = np.zeros(x.shape[1])
    losses = [(y**2).mean() / 2]
    for _ in range(steps):
        step = learning_rate * x.T @ y / len(x)
        w += step
        y -= x @ step
        losses.append((y**2).mean() / 2)
    return w, np.array(losses)
