"""Expects that every convolution has a bias."""

QUESTION = "fold_pair"
LOSES = {"a convolution without bias", "groups, stride, padding and dilation stay"}
SAYS = "conv.bias is None"


def fold_pair(conv, bn):
    with torch.no_grad():
        s = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        t = bn.bias - s * bn.running_mean
        b = conv.bias
        folded = copy.deepcopy(conv)
        folded.weight = nn.Parameter(conv.weight * s.reshape(-1, 1, 1, 1))
        folded.bias = nn.Parameter(s * b + t)
    return folded
