"""Sets gamma and beta, but not the running statistics."""

QUESTION = "identity_norm"
LOSES = {
    "returns its input in evaluation",
    "also for any eps, and where a channel hardly varies",
    "the running statistics are those given",
    "in evaluation mode, ready to learn",
    "leaves its inputs as they were",
}
SAYS = "running statistics are still 0 and 1"


def identity_norm(mean, var, eps):
    bn = nn.BatchNorm2d(len(mean), eps=eps, dtype=mean.dtype)
    with torch.no_grad():
        bn.running_mean.copy_(torch.zeros_like(mean))
        bn.running_var.copy_(torch.ones_like(var))
        bn.weight.copy_((var + eps).sqrt())
        bn.bias.copy_(mean)
    return bn.eval()
