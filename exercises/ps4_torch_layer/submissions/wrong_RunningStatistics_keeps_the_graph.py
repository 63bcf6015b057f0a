"""Updates outside no_grad: the buffers become part of the graph."""

QUESTION = "RunningStatistics"
LOSES = {"in place", "no graph hangs on the buffers"}
SAYS = "graphs of all steps"


class RunningStatistics(nn.Module):
    def __init__(self, num_features, momentum=0.1):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def update(self, mean, var, m):
        self.num_batches_tracked += 1
        alpha = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean = (1 - alpha) * self.running_mean + alpha * mean
        self.running_var = (1 - alpha) * self.running_var + alpha * var * m / (m - 1)
