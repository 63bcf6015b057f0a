"""Folds into the nearest convolution before, across a ReLU."""

QUESTION = "fold_batch_norm"
LOSES = {"BN layers elsewhere stay"}
SAYS = "Fold only where the layer directly before it"


def fold_batch_norm(model):
    new = copy.deepcopy(model)
    for sequence in [m for m in new.modules() if isinstance(m, nn.Sequential)]:
        for i in range(1, len(sequence)):
            conv, bn = next((m for m in reversed(sequence[:i]) if isinstance(m, nn.Conv2d)), None), sequence[i]
            if isinstance(bn, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
                with torch.no_grad():
                    s = bn.weight / torch.sqrt(bn.running_var + bn.eps)
                    b = 0 if conv.bias is None else conv.bias
                    conv.bias = nn.Parameter(s * (b - bn.running_mean) + bn.bias)
                    conv.weight = nn.Parameter(conv.weight * s[:, None, None, None])
                sequence[i] = nn.Identity()
    return new
