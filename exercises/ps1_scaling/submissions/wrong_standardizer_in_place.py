"""transform subtracts in the caller's array."""

QUESTION = "Standardizer"
LOSES = {"leaves its inputs as they were"}
SAYS = "changed its input in place"


class Standardizer:
    def fit(self, x):
        self.mean = x.mean(axis=0)
        self.std = x.std(axis=0)

    def transform(self, x):
        x -= self.mean
        return x / np.where(self.std > 0, self.std, np.inf)

    def inverse_transform(self, z):
        return z * self.std + self.mean
