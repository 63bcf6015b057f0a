"""Looks at the network itself only."""

QUESTION = "fold_batch_norm"
LOSES = {"Sequentials inside other modules"}
SAYS = "It finds the Sequentials at any depth"


def fold_batch_norm(model):
    new = copy.deepcopy(model)
    for sequence in [new] if isinstance(new, nn.Sequential) else []:
        for i in range(1, len(sequence)):
            conv, bn = sequence[i - 1], sequence[i]
            if isinstance(bn, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
                with torch.no_grad():
                    s = bn.weight / torch.sqrt(bn.running_var + bn.eps)
                    b = 0 if conv.bias is None else conv.bias
                    conv.bias = nn.Parameter(s * (b - bn.running_mean) + bn.bias)
                    conv.weight = nn.Parameter(conv.weight * s[:, None, None, None])
                sequence[i] = nn.Identity()
    return new
