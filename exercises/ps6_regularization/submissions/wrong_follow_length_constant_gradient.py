"""The gradient has the same length, however long the weights are."""

QUESTION = "follow_length"
LOSES = {"the length after one step", "the lengths of several steps", "the resting length"}
SAYS = "For weights of length l it is g / l"


def follow_length(length, g, lr, decay, steps):
    lengths = [length]
    for _ in range(steps):
        lengths.append(np.hypot((1 - lr * decay) * lengths[-1], lr * g))
    lengths = np.array(lengths)
    return lengths, lr / lengths**2, lr * g / np.sqrt(1 - (1 - lr * decay) ** 2)
