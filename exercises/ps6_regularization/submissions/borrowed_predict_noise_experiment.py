"""Takes the noise of the mean from the course's own experiment."""

from bnlab.experiments.batch_noise import noise_theory

QUESTION = "predict_noise"
FLAGS = "bnlab.experiments.batch_noise.noise_theory"


def predict_noise(x, m):
    kurtosis = (((x - x.mean(axis=0)) / x.std(axis=0)) ** 4).mean(axis=0)
    with_replacement, _ = noise_theory(m, 3.0)
    return with_replacement, with_replacement * np.sqrt((len(x) - m) / (len(x) - 1)), np.sqrt((kurtosis - 1) / m)
