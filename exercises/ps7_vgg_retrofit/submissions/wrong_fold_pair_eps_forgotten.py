"""No eps under the root."""

QUESTION = "fold_pair"
LOSES = {"eps inside the square root"}
SAYS = "eps is missing in s"


def fold_pair(conv, bn):
    with torch.no_grad():
        s = bn.weight / torch.sqrt(bn.running_var)
        t = bn.bias - s * bn.running_mean
        b = torch.zeros_like(t) if conv.bias is None else conv.bias
        folded = copy.deepcopy(conv)
        folded.weight = nn.Parameter(conv.weight * s.reshape(-1, 1, 1, 1))
        folded.bias = nn.Parameter(s * b + t)
    return folded
