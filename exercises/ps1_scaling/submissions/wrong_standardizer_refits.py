"""transform computes mean and std of the rows it is given."""

QUESTION = "Standardizer"
LOSES = {"transform uses what fit stored", "a constant feature becomes 0"}
SAYS = "Use those that fit stored"


class Standardizer:
    def fit(self, x):
        self.mean = x.mean(axis=0)
        self.std = x.std(axis=0)

    def transform(self, x):
        std = x.std(axis=0)
        return (x - x.mean(axis=0)) / np.where(std > 0, std, np.inf)

    def inverse_transform(self, z):
        return z * self.std + self.mean
