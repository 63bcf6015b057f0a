"""beta and running_mean are the caller's very tensor."""

QUESTION = "identity_norm"
LOSES = {"in evaluation mode, ready to learn"}
SAYS = "one and the same tensor"


def identity_norm(mean, var, eps):
    bn = nn.BatchNorm2d(len(mean), eps=eps)
    bn.running_mean, bn.running_var = mean, var
    bn.weight = nn.Parameter((var + eps).sqrt())
    bn.bias = nn.Parameter(mean)
    return bn.eval()
