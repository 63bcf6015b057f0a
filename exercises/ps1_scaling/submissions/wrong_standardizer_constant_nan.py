"""transform divides by a std of 0."""

QUESTION = "Standardizer"
LOSES = {"a constant feature becomes 0"}
SAYS = "dividing by 0 gives NaN or inf"


class Standardizer:
    def fit(self, x):
        self.mean = x.mean(axis=0)
        self.std = x.std(axis=0)

    def transform(self, x):
        return (x - self.mean) / self.std

    def inverse_transform(self, z):
        return z * self.std + self.mean
