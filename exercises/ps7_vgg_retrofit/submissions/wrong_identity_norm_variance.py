"""gamma = var, a bug found in published code that inserts BN into a trained network."""

QUESTION = "identity_norm"
LOSES = {"returns its input in evaluation", "also for any eps, and where a channel hardly varies"}
SAYS = "gamma is the variance."


def identity_norm(mean, var, eps):
    bn = nn.BatchNorm2d(len(mean), eps=eps, dtype=mean.dtype)
    with torch.no_grad():
        bn.running_mean.copy_(mean)
        bn.running_var.copy_(var)
        bn.weight.copy_(var)
        bn.bias.copy_(mean)
    return bn.eval()
