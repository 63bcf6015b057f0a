"""It is enough that one best rate lies inside."""

QUESTION = "compare"
LOSES = {"whether both best rates lie inside"}
SAYS = "look at both arms"


def compare(rates, plain, bn):
    middle_plain, middle_bn = np.median(plain, axis=1), np.median(bn, axis=1)
    k, j = int(np.argmin(middle_plain)), int(np.argmin(middle_bn))
    inside = 0 < k < len(rates) - 1 or 0 < j < len(rates) - 1
    return rates[k], rates[j], middle_plain[k] / middle_bn[j], inside
