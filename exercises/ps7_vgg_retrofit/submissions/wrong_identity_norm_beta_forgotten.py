"""Leaves beta at 0."""

QUESTION = "identity_norm"
LOSES = {"returns its input in evaluation", "also for any eps, and where a channel hardly varies"}
SAYS = "beta is still 0"


def identity_norm(mean, var, eps):
    bn = nn.BatchNorm2d(len(mean), eps=eps, dtype=mean.dtype)
    with torch.no_grad():
        bn.running_mean.copy_(mean)
        bn.running_var.copy_(var)
        bn.weight.copy_((var + eps).sqrt())
        bn.bias.copy_(torch.zeros_like(mean))
    return bn.eval()
