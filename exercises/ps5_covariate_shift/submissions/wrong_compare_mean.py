"""The mean over the seeds: one run that never arrives makes it infinite."""

QUESTION = "compare"
LOSES = {"the speedup", "runs that never arrive"}
SAYS = "the mean"


def compare(rates, plain, bn):
    middle_plain, middle_bn = np.mean(plain, axis=1), np.mean(bn, axis=1)
    k, j = int(np.argmin(middle_plain)), int(np.argmin(middle_bn))
    inside = 0 < k < len(rates) - 1 and 0 < j < len(rates) - 1
    return rates[k], rates[j], middle_plain[k] / middle_bn[j], inside
