"""Compares both arms at the rate that is best for BN."""

QUESTION = "compare"
LOSES = {"the best rate of each arm", "the speedup", "runs that never arrive", "whether both best rates lie inside"}
SAYS = "best for the other arm"


def compare(rates, plain, bn):
    middle_plain, middle_bn = np.median(plain, axis=1), np.median(bn, axis=1)
    k, j = int(np.argmin(middle_bn)), int(np.argmin(middle_bn))
    inside = 0 < k < len(rates) - 1 and 0 < j < len(rates) - 1
    return rates[k], rates[j], middle_plain[k] / middle_bn[j], inside
