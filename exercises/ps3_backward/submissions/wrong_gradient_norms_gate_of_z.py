"""Opens ReLU on the way back where z is positive, before BN."""

QUESTION = "gradient_norms"
LOSES = {
    "with BN",
    "square matrices, which fit either way round",
}
SAYS = "The gate of ReLU is z > 0"


def gradient_norms(x, weights, dh, use_bn, eps):
    h, kept = x, []
    for W in weights:
        z = h @ W
        s, inv_std = z, 1
        if use_bn:
            inv_std = 1 / np.sqrt(z.var(axis=0) + eps)
            s = (z - z.mean(axis=0)) * inv_std
        kept.append((h, z, s, inv_std))
        h = np.maximum(s, 0)

    norms = []
    for W, (h, z, s, inv_std) in zip(reversed(weights), reversed(kept), strict=True):
        dz = dh * (z > 0)
        if use_bn:
            dz = inv_std * (dz - dz.mean(axis=0) - s * (dz * s).mean(axis=0))
        norms.append(np.linalg.norm(h.T @ dz))
        dh = dz @ W.T
    return np.array(norms[::-1])
