"""transform divides by the variance."""

QUESTION = "Standardizer"
LOSES = {"transform uses what fit stored", "a constant feature becomes 0"}
SAYS = "You divide by the variance"


class Standardizer:
    def fit(self, x):
        self.mean = x.mean(axis=0)
        self.std = x.std(axis=0)

    def transform(self, x):
        safe = np.where(self.std > 0, self.std, np.inf)
        return (x - self.mean) / safe**2

    def inverse_transform(self, z):
        return z * self.std + self.mean
