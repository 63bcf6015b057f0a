"""Writes into the convolution that was given."""

QUESTION = "fold_pair"
LOSES = {"leaves the two layers as they were"}
SAYS = "of the convolution has changed"


def fold_pair(conv, bn):
    with torch.no_grad():
        s = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        b = 0 if conv.bias is None else conv.bias
        conv.weight *= s.reshape(-1, 1, 1, 1)
        conv.bias = nn.Parameter(s * (b - bn.running_mean) + bn.bias)
    return conv
