"""Multiplies by the output of the layer in the place of its input."""

QUESTION = "gradient_norms"
LOSES = {
    "without BN",
    "with BN",
    "square matrices, which fit either way round",
    "leaves its inputs as they were",
}
SAYS = "dW has the h that comes out"


def gradient_norms(x, weights, dh, use_bn, eps):
    h, kept = x, []
    for W in weights:
        z = h @ W
        s, inv_std = z, 1
        if use_bn:
            inv_std = 1 / np.sqrt(z.var(axis=0) + eps)
            s = (z - z.mean(axis=0)) * inv_std
        out = np.maximum(s, 0)
        kept.append((s, out, inv_std))
        h = out

    norms = []
    for W, (s, out, inv_std) in zip(reversed(weights), reversed(kept), strict=True):
        dz = dh * (s > 0)
        if use_bn:
            dz = inv_std * (dz - dz.mean(axis=0) - s * (dz * s).mean(axis=0))
        norms.append(np.linalg.norm(out.T @ dz))
        dh = dz @ W.T
    return np.array(norms[::-1])
