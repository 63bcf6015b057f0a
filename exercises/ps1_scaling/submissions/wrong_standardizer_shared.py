"""Stores the statistics in the class, so all scalers share them."""

QUESTION = "Standardizer"
LOSES = {"every scaler keeps its own statistics"}
SAYS = "overwrote the first"


class Standardizer:
    def fit(self, x):
        Standardizer.mean = x.mean(axis=0)
        Standardizer.std = x.std(axis=0)

    def transform(self, x):
        safe = np.where(self.std > 0, self.std, np.inf)
        return (x - self.mean) / safe

    def inverse_transform(self, z):
        return z * self.std + self.mean
