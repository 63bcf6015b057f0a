"""Reports both best rates, and the speedup at the BN arm's."""

QUESTION = "compare"
LOSES = {"the speedup", "runs that never arrive"}
SAYS = "that is the unfair comparison"


def compare(rates, plain, bn):
    middle_plain, middle_bn = np.median(plain, axis=1), np.median(bn, axis=1)
    k, j = int(np.argmin(middle_plain)), int(np.argmin(middle_bn))
    inside = 0 < k < len(rates) - 1 and 0 < j < len(rates) - 1
    return rates[k], rates[j], middle_plain[j] / middle_bn[j], inside
