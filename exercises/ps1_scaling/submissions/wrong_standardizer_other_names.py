"""Stores the statistics under names that nobody asked for."""

QUESTION = "Standardizer"
LOSES = {"fit stores mean and std"}
SAYS = "has no attribute 'mean'"


class Standardizer:
    def fit(self, x):
        self.mu = x.mean(axis=0)
        self.sigma = x.std(axis=0)

    def transform(self, x):
        return (x - self.mu) / np.where(self.sigma > 0, self.sigma, np.inf)

    def inverse_transform(self, z):
        return z * self.sigma + self.mu
