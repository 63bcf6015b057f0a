"""Records the loss before every step only."""

QUESTION = "gradient_descent"
LOSES = {"the loss before the first and after every step", "no steps at all"}
SAYS = "The loss after the last step is missing"


def gradient_descent(x, y, learning_rate, steps):
    w = np.zeros(x.shape[1])
    losses = []
    for _ in range(steps):
        residual = x @ w - y
        losses.append((residual**2).mean() / 2)
        w = w - learning_rate * x.T @ residual / len(x)
    return w, np.array(losses)
