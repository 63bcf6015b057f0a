"""Starts at w = 1."""

QUESTION = "gradient_descent"
LOSES = {
    "the weights after the last step",
    "the loss before the first and after every step",
    "no steps at all",
}
SAYS = "It starts at w = 0, not at 1"


def gradient_descent(x, y, learning_rate, steps):
    w = np.ones(x.shape[1])
    losses = [((x @ w - y) ** 2).mean() / 2]
    for _ in range(steps):
        w = w - learning_rate * x.T @ (x @ w - y) / len(x)
        losses.append(((x @ w - y) ** 2).mean() / 2)
    return w, np.array(losses)
