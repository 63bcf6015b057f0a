"""A thin coat around scikit-learn's StandardScaler."""

from sklearn.preprocessing import StandardScaler

QUESTION = "Standardizer"
FLAGS = "sklearn.preprocessing"


class Standardizer:
    def fit(self, x):
        self.scaler = StandardScaler().fit(x)
        self.mean = self.scaler.mean_
        self.std = np.sqrt(self.scaler.var_)

    def transform(self, x):
        return np.where(self.std == 0, 0.0, self.scaler.transform(x))

    def inverse_transform(self, z):
        return self.scaler.inverse_transform(z)
