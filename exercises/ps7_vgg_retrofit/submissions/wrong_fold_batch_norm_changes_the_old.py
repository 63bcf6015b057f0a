"""Works on the network that was given."""

QUESTION = "fold_batch_norm"
LOSES = {"leaves the old network as it was"}
SAYS = "the layers of the old network have changed"


def fold_batch_norm(model):
    new = model
    for sequence in [m for m in new.modules() if isinstance(m, nn.Sequential)]:
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
