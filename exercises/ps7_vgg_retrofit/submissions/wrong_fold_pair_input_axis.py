"""Multiplies along the input channels."""

QUESTION = "fold_pair"
LOSES = {"the weights", "groups, stride, padding and dilation stay", "eps inside the square root"}
SAYS = "along the input channels"


def fold_pair(conv, bn):
    with torch.no_grad():
        s = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        t = bn.bias - s * bn.running_mean
        b = torch.zeros_like(t) if conv.bias is None else conv.bias
        folded = copy.deepcopy(conv)
        folded.weight = nn.Parameter(conv.weight * s[: conv.weight.shape[1]].reshape(1, -1, 1, 1))
        folded.bias = nn.Parameter(s * b + t)
    return folded
