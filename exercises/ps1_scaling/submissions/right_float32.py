"""float32 wherever the numbers allow it; boolean masks instead of np.where; small functions inside functions."""


def min_max(x, low, high, clip=False):
    varies = high > low
    x_scaled = np.zeros(x.shape, dtype=np.float32)
    x_scaled[:, varies] = ((x[:, varies] - low[varies]) / (high[varies] - low[varies])).astype(np.float32)
    return np.minimum(np.maximum(x_scaled, np.float32(0)), np.float32(1)) if clip else x_scaled


def fit_standardizer(x):
    shift = x[0]  # a value that occurs: what is left is small, and exactly 0 in a constant feature
    left = (x - shift).T
    mean = np.add.reduce(left, axis=1) / len(x)
    std = np.array([np.linalg.norm(row - row.mean()) / len(row) ** 0.5 if row.any() else 0.0 for row in left])
    return mean + shift, std


class Standardizer:
    def fit(self, x):
        x = x.astype(np.float32)
        self.mean, self.std = x.mean(axis=0), x.std(axis=0)

    def transform(self, x):
        z = (x - self.mean).astype(np.float32)
        z[:, self.std > 0] /= self.std[self.std > 0]
        z[:, self.std == 0] = 0
        return z

    def inverse_transform(self, z):
        return np.asarray(z, dtype=np.float32) * self.std + self.mean


def split_and_scale(x, train_rows, test_rows):
    train = x[train_rows].astype(np.float32)

    def place(rows):
        return (rows.astype(np.float32) - train.min(axis=0)) / np.ptp(train, axis=0)

    return place(x[train_rows]), place(x[test_rows])


def condition_number(x):
    if x.shape[0] < x.shape[1]:
        return float("inf")
    singular = np.linalg.svd(x / np.sqrt(len(x)), compute_uv=False)
    ratio = np.divide(singular[-1], singular[0])
    return 1 / ratio**2 if ratio > 1e-6 else float("inf")


def gradient(w, x, y):
    w, x, y = (a.astype(np.float32) for a in (w, x, y))
    return np.tensordot(x @ w - y, x, axes=(0, 0)) / np.float32(len(y))


def best_learning_rate(x):
    eigenvalues = np.linalg.eigh(np.tensordot(x, x, axes=(0, 0)) / x.shape[0])[0]
    return np.float32(1 / np.mean([eigenvalues.min(), eigenvalues.max()]))


def gradient_descent(x, y, learning_rate, steps):
    x, y = x.astype(np.float32), y.astype(np.float32)
    w = np.zeros(x.shape[1], dtype=np.float32)
    losses = []
    while True:
        residual = x @ w - y
        losses.append(residual @ residual / np.float32(2 * len(y)))
        if len(losses) > steps:
            return w, np.stack(losses)
        w -= np.float32(learning_rate / len(y)) * (residual @ x)
