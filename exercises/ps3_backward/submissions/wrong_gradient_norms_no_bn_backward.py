"""Forgets BN on the way back."""

QUESTION = "gradient_norms"
LOSES = {
    "with BN",
    "square matrices, which fit either way round",
}
SAYS = "as if it weren't there"


def gradient_norms(x, weights, dh, use_bn, eps):
    h, kept = x, []
    for W in weights:
        s = h @ W
        if use_bn:
            inv_std = 1 / np.sqrt(s.var(axis=0) + eps)
            s = (s - s.mean(axis=0)) * inv_std
        kept.append((h, s))
        h = np.maximum(s, 0)

    norms = []
    for W, (h, s) in zip(reversed(weights), reversed(kept), strict=True):
        dz = dh * (s > 0)
        norms.append(np.linalg.norm(h.T @ dz))
        dh = dz @ W.T
    return np.array(norms[::-1])
