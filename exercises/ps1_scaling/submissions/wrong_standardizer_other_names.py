"""Stores the statistics under names that nobody asked for."""

QUESTION = "Standardizer"
LOSES = {
    "fit stores mean and std",
    "transform uses what fit stored",
    "a constant feature becomes 0",
    "inverse_transform undoes transform",
    "every scaler keeps its own statistics",
    "leaves its inputs as they were",
}
SAYS = "has no attribute 'mean'"


class Standardizer:
    def fit(self, x):
        self.mu = x.mean(axis=0)
        self.sigma = x.std(axis=0)

    def transform(self, x):
        return (x - self.mu) / np.where(self.sigma > 0, self.sigma, np.inf)

    def inverse_transform(self, z):
        return z * self.sigma + self.mu
