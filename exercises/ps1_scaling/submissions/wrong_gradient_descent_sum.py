"""Steps along the gradient of a sum over the rows: it diverges."""

QUESTION = "gradient_descent"
LOSES = {
    "the weights after the last step",
    "the loss before the first and after every step",
    "many steps arrive at the least-squares solution",
}
SAYS = "Every step is m times too long"


def gradient_descent(x, y, learning_rate, steps):
    w = np.zeros(x.shape[1])
    losses = [((x @ w - y) ** 2).mean() / 2]
    for _ in range(steps):
        w = w - learning_rate * x.T @ (x @ w - y)
        losses.append(((x @ w - y) ** 2).mean() / 2)
    return w, np.array(losses)
