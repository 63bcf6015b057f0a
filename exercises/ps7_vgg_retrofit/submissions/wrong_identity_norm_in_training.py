"""Returns the layer in training mode."""

QUESTION = "identity_norm"
LOSES = {"in evaluation mode, ready to learn"}
SAYS = "return bn.eval()"


def identity_norm(mean, var, eps):
    bn = nn.BatchNorm2d(len(mean), eps=eps, dtype=mean.dtype)
    with torch.no_grad():
        bn.running_mean.copy_(mean)
        bn.running_var.copy_(var)
        bn.weight.copy_((var + eps).sqrt())
        bn.bias.copy_(mean)
    return bn
