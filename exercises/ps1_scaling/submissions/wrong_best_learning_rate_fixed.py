"""A learning rate that once worked."""

QUESTION = "best_learning_rate"
LOSES = {
    "several features",
    "one feature: a single step arrives",
    "other units, other learning rate",
    "leaves its inputs as they were",
}
SAYS = "It has to depend on x"


def best_learning_rate(x):
    return 0.1
