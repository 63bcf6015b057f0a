"""Returns the lengths after the steps without the one before."""

QUESTION = "follow_length"
LOSES = {"the length after one step", "the lengths of several steps", "the effective learning rate"}
SAYS = "before the first step is missing"


def follow_length(length, g, lr, decay, steps):
    lengths = [length]
    for _ in range(steps):
        lengths.append(np.hypot((1 - lr * decay) * lengths[-1], lr * g / lengths[-1]))
    lengths = np.array(lengths[1:])
    return lengths, lr / lengths**2, ((lr * g) ** 2 / (1 - (1 - lr * decay) ** 2)) ** 0.25
