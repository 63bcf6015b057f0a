"""Puts the product of rate and decay into the effective learning rate."""

QUESTION = "follow_length"
LOSES = {"the effective learning rate"}
SAYS = "Only the learning rate is asked"


def follow_length(length, g, lr, decay, steps):
    lengths = [length]
    for _ in range(steps):
        lengths.append(np.hypot((1 - lr * decay) * lengths[-1], lr * g / lengths[-1]))
    lengths = np.array(lengths)
    return lengths, lr * decay / lengths**2, ((lr * g) ** 2 / (1 - (1 - lr * decay) ** 2)) ** 0.25
