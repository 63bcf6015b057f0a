"""Treats the statistics of BN as constants."""

QUESTION = "gradient_norms"
LOSES = {
    "with BN",
    "square matrices, which fit either way round",
}
SAYS = "statistics of BN are treated as constants"


def gradient_norms(x, weights, dh, use_bn, eps):
    h, kept = x, []
    for W in weights:
        s, inv_std = h @ W, None
        if use_bn:
            inv_std = 1 / np.sqrt(s.var(axis=0) + eps)
            s = (s - s.mean(axis=0)) * inv_std
        kept.append((h, s, inv_std))
        h = np.maximum(s, 0)

    norms = []
    for W, (h, s, inv_std) in zip(reversed(weights), reversed(kept), strict=True):
        dz = dh * (s > 0)
        if use_bn:
            dz = inv_std * dz
        norms.append(np.linalg.norm(h.T @ dz))
        dh = dz @ W.T
    return np.array(norms[::-1])
