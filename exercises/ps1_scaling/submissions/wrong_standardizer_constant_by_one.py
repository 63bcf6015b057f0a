"""Puts 1 in place of a std of 0, so an unseen value of a constant feature keeps its size."""

QUESTION = "Standardizer"
LOSES = {"a constant feature becomes 0"}
SAYS = "This is x - mean for feature"


class Standardizer:
    def fit(self, x):
        self.mean = x.mean(axis=0)
        self.std = np.where(x.std(axis=0) == 0, 1.0, x.std(axis=0))

    def transform(self, x):
        return (x - self.mean) / self.std

    def inverse_transform(self, z):
        return z * self.std + self.mean
