"""inverse_transform forgets the mean."""

QUESTION = "Standardizer"
LOSES = {"inverse_transform undoes transform"}
SAYS = "Add the mean, too"


class Standardizer:
    def fit(self, x):
        self.mean = x.mean(axis=0)
        self.std = x.std(axis=0)

    def transform(self, x):
        safe = np.where(self.std > 0, self.std, np.inf)
        return (x - self.mean) / safe

    def inverse_transform(self, z):
        return z * self.std
