"""Works with columns throughout, and returns w of shape (D, 1)."""

QUESTION = "gradient_descent"
LOSES = {
    "the weights after the last step",
    "many steps arrive at the least-squares solution",
    "no steps at all",
}
SAYS = "start from np.zeros(D)"


def gradient_descent(x, y, learning_rate, steps):
    w, target = np.zeros((x.shape[1], 1)), y.reshape(-1, 1)
    losses = [((x @ w - target) ** 2).mean() / 2]
    for _ in range(steps):
        w = w - learning_rate * x.T @ (x @ w - target) / len(x)
        losses.append(((x @ w - target) ** 2).mean() / 2)
    return w, np.array(losses)
