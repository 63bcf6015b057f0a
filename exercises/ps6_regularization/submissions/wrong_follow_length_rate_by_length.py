"""Divides the learning rate by the length, not by its square."""

QUESTION = "follow_length"
LOSES = {"the effective learning rate"}
SAYS = "divide by the *squared* length"


def follow_length(length, g, lr, decay, steps):
    lengths = [length]
    for _ in range(steps):
        lengths.append(np.hypot((1 - lr * decay) * lengths[-1], lr * g / lengths[-1]))
    lengths = np.array(lengths)
    return lengths, lr / lengths, ((lr * g) ** 2 / (1 - (1 - lr * decay) ** 2)) ** 0.25
