"""Steps along the gradient of the mean squared error without its half."""

QUESTION = "gradient_descent"
LOSES = {"the weights after the last step", "the loss before the first and after every step"}
SAYS = "Every step is twice too long"


def gradient_descent(x, y, learning_rate, steps):
    w = np.zeros(x.shape[1])
    losses = [((x @ w - y) ** 2).mean() / 2]
    for _ in range(steps):
        w = w - learning_rate * 2 * x.T @ (x @ w - y) / len(x)
        losses.append(((x @ w - y) ** 2).mean() / 2)
    return w, np.array(losses)
