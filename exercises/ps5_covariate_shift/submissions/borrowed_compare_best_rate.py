"""Asks the course's function for the best rates."""

QUESTION = "compare"
FLAGS = "bnlab.ensemble.best_rate"


def compare(rates, plain, bn):
    from bnlab.ensemble import best_rate

    (rate_plain, inside), (rate_bn, also) = best_rate(rates, plain), best_rate(rates, bn)
    speedup = np.median(plain[rates == rate_plain]) / np.median(bn[rates == rate_bn])
    return rate_plain, rate_bn, speedup, inside and also
