"""Squares 1 - lr * decay without the last term."""

QUESTION = "follow_length"
LOSES = {"the resting length", "the lengths of several steps", "the length after one step"}
SAYS = "leaves out the last term"


def follow_length(length, g, lr, decay, steps):
    lengths = [length]
    for _ in range(steps):
        ell = lengths[-1]
        lengths.append(np.sqrt((1 - 2 * lr * decay) * ell**2 + (lr * g / ell) ** 2))
    lengths = np.array(lengths)
    resting = ((lr * g) ** 2 / (2 * lr * decay)) ** 0.25
    return lengths, lr / lengths**2, resting
