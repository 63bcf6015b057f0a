"""Adds the gradient."""

QUESTION = "gradient_descent"
LOSES = {
    "the weights after the last step",
    "the loss before the first and after every step",
    "many steps arrive at the least-squares solution",
}
SAYS = "You walk uphill"


def gradient_descent(x, y, learning_rate, steps):
    w = np.zeros(x.shape[1])
    losses = [((x @ w - y) ** 2).mean() / 2]
    for _ in range(steps):
        w = w + learning_rate * x.T @ (x @ w - y) / len(x)
        losses.append(((x @ w - y) ** 2).mean() / 2)
    return w, np.array(losses)
