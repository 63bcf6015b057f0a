"""Makes a new convolution and forgets stride, padding, dilation and groups."""

QUESTION = "fold_pair"
LOSES = {"groups, stride, padding and dilation stay"}
SAYS = "Keep its settings"


def fold_pair(conv, bn):
    with torch.no_grad():
        s = bn.weight / torch.sqrt(bn.running_var + bn.eps)
        t = bn.bias - s * bn.running_mean
        b = torch.zeros_like(t) if conv.bias is None else conv.bias
        folded = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size)
        folded.weight = nn.Parameter(conv.weight * s.reshape(-1, 1, 1, 1))
        folded.bias = nn.Parameter(s * b + t)
    return folded
