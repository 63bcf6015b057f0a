"""Subtracts the step from the length, as if the gradient pointed along the weights."""

QUESTION = "follow_length"
LOSES = {"the lengths of several steps", "the length after one step"}
SAYS = "at a right angle"


def follow_length(length, g, lr, decay, steps):
    lengths = [length]
    for _ in range(steps):
        ell = lengths[-1]
        lengths.append((1 - lr * decay) * ell - lr * g / ell)
    lengths = np.array(lengths)
    resting = ((lr * g) ** 2 / (1 - (1 - lr * decay) ** 2)) ** 0.25
    return lengths, lr / lengths**2, resting
