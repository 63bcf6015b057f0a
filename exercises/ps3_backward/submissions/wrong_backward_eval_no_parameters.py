"""Treats gamma and beta as constants, too: evaluation doesn't learn."""

QUESTION = "backward_eval"
LOSES = {
    "dx",
    "dgamma and dbeta",
    "a batch of one example",
    "eps inside the square root",
    "leaves its inputs as they were",
}
SAYS = "expected 3 values"


def backward_eval(dy, x, gamma, running_mean, running_var, eps):
    inv_std = 1 / np.sqrt(running_var + eps)
    return dy * gamma * inv_std
