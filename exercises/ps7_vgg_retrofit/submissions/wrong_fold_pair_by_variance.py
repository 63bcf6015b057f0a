"""Divides by the variance."""

QUESTION = "fold_pair"
LOSES = {
    "the weights",
    "the biases",
    "a convolution without bias",
    "groups, stride, padding and dilation stay",
    "eps inside the square root",
    "leaves the two layers as they were",
}
SAYS = "s divides by the variance"


def fold_pair(conv, bn):
    with torch.no_grad():
        s = bn.weight / (bn.running_var + bn.eps)
        t = bn.bias - s * bn.running_mean
        b = torch.zeros_like(t) if conv.bias is None else conv.bias
        folded = copy.deepcopy(conv)
        folded.weight = nn.Parameter(conv.weight * s.reshape(-1, 1, 1, 1))
        folded.bias = nn.Parameter(s * b + t)
    return folded
