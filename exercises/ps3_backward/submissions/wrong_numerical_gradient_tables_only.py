"""Two loops, over rows and columns: no other number of axes."""

QUESTION = "numerical_gradient"
LOSES = {
    "an array with any number of axes",
}
SAYS = "walks through the indices of any array"


def numerical_gradient(f, x, dy, h):
    dx = np.zeros(x.shape)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            step = np.zeros(x.shape)
            step[i, j] = h
            dx[i, j] = np.sum(dy * (f(x + step) - f(x - step))) / (2 * h)
    return dx
