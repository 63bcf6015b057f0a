"""Folds, but leaves the BN layer in place, so it acts twice."""

QUESTION = "fold_batch_norm"
LOSES = {
    "the outputs stay the same",
    "an Identity in the place of each",
    "BN layers elsewhere stay",
    "Sequentials inside other modules",
    "leaves the old network as it was",
}
SAYS = "folded still has the BN layers"


def fold_batch_norm(model):
    new = copy.deepcopy(model)
    for sequence in [m for m in new.modules() if isinstance(m, nn.Sequential)]:
        for i in range(1, len(sequence)):
            conv, bn = sequence[i - 1], sequence[i]
            if isinstance(bn, nn.BatchNorm2d) and isinstance(conv, nn.Conv2d):
                with torch.no_grad():
                    s = bn.weight / torch.sqrt(bn.running_var + bn.eps)
                    b = 0 if conv.bias is None else conv.bias
                    conv.bias = nn.Parameter(s * (b - bn.running_mean) + bn.bias)
                    conv.weight = nn.Parameter(conv.weight * s[:, None, None, None])
                pass
    return new
