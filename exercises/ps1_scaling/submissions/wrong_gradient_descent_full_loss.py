"""Records the mean squared error without its half."""

QUESTION = "gradient_descent"
LOSES = {"the loss before the first and after every step"}
SAYS = "Twice too large"


def gradient_descent(x, y, learning_rate, steps):
    w = np.zeros(x.shape[1])
    losses = [((x @ w - y) ** 2).mean()]
    for _ in range(steps):
        w = w - learning_rate * x.T @ (x @ w - y) / len(x)
        losses.append(((x @ w - y) ** 2).mean())
    return w, np.array(losses)
