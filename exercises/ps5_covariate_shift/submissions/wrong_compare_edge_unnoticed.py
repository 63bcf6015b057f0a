"""Never looks whether the best rate is at the edge."""

QUESTION = "compare"
LOSES = {"whether both best rates lie inside"}
SAYS = "a better one may lie beyond"


def compare(rates, plain, bn):
    middle_plain, middle_bn = np.median(plain, axis=1), np.median(bn, axis=1)
    k, j = int(np.argmin(middle_plain)), int(np.argmin(middle_bn))
    inside = bool(rates[0] <= rates[k] <= rates[-1] and rates[0] <= rates[j] <= rates[-1])
    return rates[k], rates[j], middle_plain[k] / middle_bn[j], inside
