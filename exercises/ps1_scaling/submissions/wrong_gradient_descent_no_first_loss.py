"""Records the loss after every step only."""

QUESTION = "gradient_descent"
LOSES = {"the loss before the first and after every step", "no steps at all"}
SAYS = "The loss at the start is missing"


def gradient_descent(x, y, learning_rate, steps):
    w = np.zeros(x.shape[1])
    losses = []
    for _ in range(steps):
        w = w - learning_rate * x.T @ (x @ w - y) / len(x)
        losses.append(((x @ w - y) ** 2).mean() / 2)
    return w, np.array(losses)
