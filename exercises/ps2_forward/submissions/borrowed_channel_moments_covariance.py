"""Takes the diagonal of NumPy's covariance matrix of the channels."""

QUESTION = "channel_moments"
FLAGS = "numpy.cov"


def channel_moments(x):
    channels = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
    return channels.mean(axis=1), np.diag(np.cov(channels, bias=True))
