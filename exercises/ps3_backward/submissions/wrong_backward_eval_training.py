"""The backward pass of training, with the statistics of x."""

QUESTION = "backward_eval"
LOSES = {
    "dx",
    "dgamma and dbeta",
    "a batch of one example",
    "eps inside the square root",
    "leaves its inputs as they were",
}
SAYS = "gradient in training"


def backward_eval(dy, x, gamma, running_mean, running_var, eps):
    m = len(x)
    inv_std = 1 / np.sqrt(x.var(axis=0) + eps)
    x_hat = (x - x.mean(axis=0)) * inv_std
    dgamma, dbeta = (dy * x_hat).sum(axis=0), dy.sum(axis=0)
    return gamma * inv_std * (dy - dbeta / m - x_hat * dgamma / m), dgamma, dbeta
