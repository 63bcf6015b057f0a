"""Shrinks the weights after the step, the step included."""

QUESTION = "follow_length"
LOSES = {"the length after one step", "the lengths of several steps"}
SAYS = "shortens the weights after the step"


def follow_length(length, g, lr, decay, steps):
    lengths = [length]
    for _ in range(steps):
        lengths.append((1 - lr * decay) * np.hypot(lengths[-1], lr * g / lengths[-1]))
    lengths = np.array(lengths)
    return lengths, lr / lengths**2, ((lr * g) ** 2 / (1 - (1 - lr * decay) ** 2)) ** 0.25
