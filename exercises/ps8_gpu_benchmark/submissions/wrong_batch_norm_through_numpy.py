"""Goes through NumPy, where autograd can't follow."""

QUESTION = "batch_norm"
LOSES = {"gradients flow to x, gamma and beta"}
SAYS = "No gradient arrives"


def batch_norm(x, gamma, beta, eps):
    x, gamma, beta = (t.detach().numpy() for t in (x, gamma, beta))
    mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    return torch.from_numpy(gamma.reshape(1, -1, 1, 1) * (x - mean) / np.sqrt(var + eps) + beta.reshape(1, -1, 1, 1))
