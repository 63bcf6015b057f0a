"""Joins the samples and divides by the standard deviation of all."""

QUESTION = "shift_size"
LOSES = {"d: the move of the mean"}
SAYS = "joins the two samples"


def shift_size(source, target):
    var, var_t = source.var(dim=0), target.var(dim=0)
    move = target.mean(dim=0) - source.mean(dim=0)
    d, r = move / torch.cat([source, target]).std(dim=0), (var_t / var).sqrt()
    still = (var == 0) & (var_t == 0)
    return torch.where(still, 0.0, d), torch.where(still, 1.0, r)
