"""Drops and doesn't scale: the mean shrinks."""

QUESTION = "dropout"
LOSES = {"scales what is left"}
SAYS = "came through unscaled"


def dropout(x, p, training, rng):
    return x * (rng.random(x.shape) >= p) if training else x
