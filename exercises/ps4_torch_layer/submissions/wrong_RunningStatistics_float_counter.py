"""Counts the batches in a float32 tensor of shape (1,)."""

QUESTION = "RunningStatistics"
LOSES = {"the buffers: names, shapes, dtypes, starting values", "counts the batches"}
SAYS = "It counts batches: an integer"


class RunningStatistics(nn.Module):
    def __init__(self, num_features, momentum=0.1):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.zeros(1))

    def update(self, mean, var, m):
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            alpha = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean.mul_(1 - alpha).add_(alpha * mean)
            self.running_var.mul_(1 - alpha).add_(alpha * var * m / (m - 1))
