"""Averages the standard deviations instead of the variances."""

QUESTION = "shift_size"
LOSES = {"d: the move of the mean"}
SAYS = "average the variances"


def shift_size(source, target):
    var, var_t = source.var(dim=0), target.var(dim=0)
    move = target.mean(dim=0) - source.mean(dim=0)
    d, r = move / ((var.sqrt() + var_t.sqrt()) / 2), (var_t / var).sqrt()
    still = (var == 0) & (var_t == 0)
    return torch.where(still, 0.0, d), torch.where(still, 1.0, r)
