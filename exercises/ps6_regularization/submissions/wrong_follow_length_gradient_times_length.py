"""The gradient grows with the weights."""

QUESTION = "follow_length"
LOSES = {"the lengths of several steps", "the length after one step"}
SAYS = "it is the other way round"


def follow_length(length, g, lr, decay, steps):
    lengths = [length]
    for _ in range(steps):
        ell = lengths[-1]
        lengths.append(np.hypot((1 - lr * decay) * ell, lr * g * ell))
    lengths = np.array(lengths)
    resting = ((lr * g) ** 2 / (1 - (1 - lr * decay) ** 2)) ** 0.25
    return lengths, lr / lengths**2, resting
