"""Shrinks by 1 - decay: decay isn't multiplied by the learning rate."""

QUESTION = "follow_length"
LOSES = {"the length after one step", "the lengths of several steps", "the resting length"}
SAYS = "decay is not multiplied by the learning rate"


def follow_length(length, g, lr, decay, steps):
    lengths = [length]
    for _ in range(steps):
        lengths.append(np.hypot((1 - decay) * lengths[-1], lr * g / lengths[-1]))
    lengths = np.array(lengths)
    return lengths, lr / lengths**2, ((lr * g) ** 2 / (1 - (1 - decay) ** 2)) ** 0.25
