"""Plain Python loops over rows and features, and lists that become arrays at the end."""

import math


def min_max(x, low, high, clip=False):
    result = []
    for row in x:
        scaled = []
        for value, lowest, highest in zip(row, low, high, strict=True):
            place = float(value - lowest) / float(highest - lowest) if highest > lowest else 0.0
            scaled.append(min(1.0, max(0.0, place)) if clip else place)
        result.append(scaled)
    return np.array(result)


def fit_standardizer(x):
    means, stds = [], []
    for column in x.T:
        mean = math.fsum(column) / len(column)
        variance = math.fsum((value - mean) ** 2 for value in column) / len(column)
        means.append(mean)
        stds.append(0.0 if len(set(column.tolist())) == 1 else math.sqrt(variance))
    return [np.array(means), np.array(stds)]


class Standardizer:
    def __init__(self):
        self.mean, self.std = None, None

    def fit(self, x):
        rows, features = x.shape
        self.mean = np.array([sum(x[:, j]) / rows for j in range(features)])
        squares = [sum((value - self.mean[j]) ** 2 for value in x[:, j]) for j in range(features)]
        self.std = np.array([math.sqrt(square / rows) for square in squares])
        return self

    def transform(self, x):
        result = np.zeros(x.shape)
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                if self.std[j] > 0:
                    result[i, j] = (x[i, j] - self.mean[j]) / self.std[j]
        return result

    def inverse_transform(self, z):
        return np.array([[value * s + m for value, m, s in zip(row, self.mean, self.std, strict=True)] for row in z])


def split_and_scale(x, train_rows, test_rows):
    low = [min(x[i, j] for i in train_rows) for j in range(x.shape[1])]
    high = [max(x[i, j] for i in train_rows) for j in range(x.shape[1])]

    def scale(rows):
        return np.array([[(x[i, j] - low[j]) / (high[j] - low[j]) for j in range(x.shape[1])] for i in rows])

    return scale(train_rows), scale(test_rows)


def condition_number(x):
    rows, features = x.shape
    hessian = np.zeros((features, features))
    for i in range(rows):
        hessian += np.outer(x[i], x[i]) / rows
    eigenvalues = sorted(np.linalg.eigvals(hessian).real)
    if eigenvalues[0] <= 1e-12 * eigenvalues[-1]:
        return math.inf
    return float(eigenvalues[-1] / eigenvalues[0])


def gradient(w, x, y):
    rows, features = x.shape
    result = np.zeros(features)
    for i in range(rows):
        residual = sum(x[i, j] * w[j] for j in range(features)) - y[i]
        for j in range(features):
            result[j] += residual * x[i, j] / rows
    return result


def best_learning_rate(x):
    hessian = sum(np.outer(row, row) for row in x) / len(x)
    eigenvalues = sorted(np.linalg.eigvals(hessian).real)
    return float(2 / (eigenvalues[0] + eigenvalues[-1]))


def gradient_descent(x, y, learning_rate, steps):
    rows, features = x.shape
    w = [0.0] * features

    def residuals():
        return [sum(x[i, j] * w[j] for j in range(features)) - y[i] for i in range(rows)]

    losses = [sum(r * r for r in residuals()) / (2 * rows)]
    for _ in range(steps):
        now = residuals()
        w = [w[j] - learning_rate * sum(now[i] * x[i, j] for i in range(rows)) / rows for j in range(features)]
        losses.append(sum(r * r for r in residuals()) / (2 * rows))
    return np.array(w), losses
