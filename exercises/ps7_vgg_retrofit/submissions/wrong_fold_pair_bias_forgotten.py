"""Forgets the convolution's own bias."""

QUESTION = "fold_pair"
LOSES = {"the biases", "eps inside the square root"}
SAYS = "s * b is missing"


def fold_pair(conv, bn):
    with torch.no_grad():
        s = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        t = bn.bias - s * bn.running_mean
        folded = copy.deepcopy(conv)
        folded.weight = nn.Parameter(conv.weight * s.reshape(-1, 1, 1, 1))
        folded.bias = nn.Parameter(t)
    return folded
