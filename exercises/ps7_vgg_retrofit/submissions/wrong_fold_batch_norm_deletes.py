"""Takes the BN layers out, so that the layers behind them get other names."""

QUESTION = "fold_batch_norm"
LOSES = {"an Identity in the place of each", "BN layers elsewhere stay"}
SAYS = "Then all names stay the same"


def fold_batch_norm(model):
    new = copy.deepcopy(model)
    for sequence in [m for m in new.modules() if isinstance(m, nn.Sequential)]:
        for i in reversed(range(1, len(sequence))):
            conv, bn = sequence[i - 1], sequence[i]
            if isinstance(bn, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
                with torch.no_grad():
                    s = bn.weight / torch.sqrt(bn.running_var + bn.eps)
                    b = 0 if conv.bias is None else conv.bias
                    conv.bias = nn.Parameter(s * (b - bn.running_mean) + bn.bias)
                    conv.weight = nn.Parameter(conv.weight * s[:, None, None, None])
                del sequence[i]
    return new
