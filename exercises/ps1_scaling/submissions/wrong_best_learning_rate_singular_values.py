"""Takes the singular values of x for the curvatures."""

QUESTION = "best_learning_rate"
LOSES = {
    "several features",
    "one feature: a single step arrives",
    "other units, other learning rate",
    "leaves its inputs as they were",
}
SAYS = "which are the squares of the singular values"


def best_learning_rate(x):
    singular = np.linalg.svd(x, compute_uv=False)
    return 2 / (singular[0] + singular[-1])
