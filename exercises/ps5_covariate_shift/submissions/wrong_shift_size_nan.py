"""0/0 for a feature that is constant."""

QUESTION = "shift_size"
LOSES = {"a feature that is the same constant in both samples"}
SAYS = "0/0 is nan"


def shift_size(source, target):
    var, var_t = source.var(dim=0), target.var(dim=0)
    move = target.mean(dim=0) - source.mean(dim=0)
    d, r = move / ((var + var_t) / 2).sqrt(), (var_t / var).sqrt()
    return d, r
