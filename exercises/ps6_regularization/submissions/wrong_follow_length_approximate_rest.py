"""The textbook's resting length, which holds for a small product of rate and decay."""

QUESTION = "follow_length"
LOSES = {"the resting length"}
SAYS = "approximation for small lr * decay"


def follow_length(length, g, lr, decay, steps):
    lengths = [length]
    for _ in range(steps):
        lengths.append(np.hypot((1 - lr * decay) * lengths[-1], lr * g / lengths[-1]))
    lengths = np.array(lengths)
    return lengths, lr / lengths**2, (lr * g**2 / (2 * decay)) ** 0.25
