"""Shuffles the chosen labels among themselves: some meet their equals."""

QUESTION = "corrupt_labels"
LOSES = {"exactly the share asked for is wrong"}
SAYS = "shuffled labels meet their equals"


def corrupt_labels(y, classes, share, rng):
    chosen = rng.permutation(len(y))[: round(share * len(y))]
    labels = y.copy()
    labels[chosen] = rng.permutation(y[chosen])
    return labels, labels != y
