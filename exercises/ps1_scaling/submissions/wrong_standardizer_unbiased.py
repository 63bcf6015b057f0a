"""Divides the variance by m - 1."""

QUESTION = "Standardizer"
LOSES = {"fit stores mean and std"}
SAYS = "You divide by m - 1"


class Standardizer:
    def fit(self, x):
        self.mean = x.mean(axis=0)
        self.std = x.std(axis=0, ddof=1)

    def transform(self, x):
        safe = np.where(self.std > 0, self.std, np.inf)
        return (x - self.mean) / safe

    def inverse_transform(self, z):
        return z * self.std + self.mean
