"""A second fit changes nothing."""

QUESTION = "Standardizer"
LOSES = {"every scaler keeps its own statistics"}
SAYS = "Fitting again starts from nothing"


class Standardizer:
    def fit(self, x):
        if not hasattr(self, "mean"):
            self.mean = x.mean(axis=0)
            self.std = x.std(axis=0)

    def transform(self, x):
        safe = np.where(self.std > 0, self.std, np.inf)
        return (x - self.mean) / safe

    def inverse_transform(self, z):
        return z * self.std + self.mean
