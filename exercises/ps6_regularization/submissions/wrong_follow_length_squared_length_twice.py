"""Divides the gradient by the squared length, and solves for that."""

QUESTION = "follow_length"
LOSES = {"the resting length", "the lengths of several steps", "the length after one step"}
SAYS = "only the effective rate has l squared"


def follow_length(length, g, lr, decay, steps):
    lengths = [length]
    for _ in range(steps):
        ell = lengths[-1]
        lengths.append(np.hypot((1 - lr * decay) * ell, lr * g / ell**2))
    lengths = np.array(lengths)
    resting = ((lr * g) ** 2 / (1 - (1 - lr * decay) ** 2)) ** (1 / 6)
    return lengths, lr / lengths**2, resting
