"""gamma = sqrt(var)."""

QUESTION = "identity_norm"
LOSES = {"also for any eps, and where a channel hardly varies"}
SAYS = "eps is missing in gamma"


def identity_norm(mean, var, eps):
    bn = nn.BatchNorm2d(len(mean), eps=eps, dtype=mean.dtype)
    with torch.no_grad():
        bn.running_mean.copy_(mean)
        bn.running_var.copy_(var)
        bn.weight.copy_(var.sqrt())
        bn.bias.copy_(mean)
    return bn.eval()
