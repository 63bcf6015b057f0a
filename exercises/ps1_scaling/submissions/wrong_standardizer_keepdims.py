"""Keeps the axis of the rows, so the stored numbers have shape (1, D). What transform gives is right all the same."""

QUESTION = "Standardizer"
LOSES = {"fit stores mean and std"}
SAYS = "An extra axis of length 1: drop keepdims=True"


class Standardizer:
    def fit(self, x):
        self.mean = x.mean(axis=0, keepdims=True)
        self.std = x.std(axis=0, keepdims=True)

    def transform(self, x):
        safe = np.where(self.std > 0, self.std, np.inf)
        return (x - self.mean) / safe

    def inverse_transform(self, z):
        return z * self.std + self.mean
