"""transform computes and returns nothing."""

QUESTION = "Standardizer"
LOSES = {
    "transform uses what fit stored",
    "a constant feature becomes 0",
    "every scaler keeps its own statistics",
}
SAYS = "Does the method return its result?"


class Standardizer:
    def fit(self, x):
        self.mean = x.mean(axis=0)
        self.std = x.std(axis=0)

    def transform(self, x):
        safe = np.where(self.std > 0, self.std, np.inf)
        z = (x - self.mean) / safe  # noqa: F841

    def inverse_transform(self, z):
        return z * self.std + self.mean
