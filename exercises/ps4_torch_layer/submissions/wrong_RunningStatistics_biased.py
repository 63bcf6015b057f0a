"""Updates running_var with the biased variance."""

QUESTION = "RunningStatistics"
LOSES = {"running variance, from the unbiased one"}
SAYS = "The biased variance went in"


class RunningStatistics(nn.Module):
    def __init__(self, num_features, momentum=0.1):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def update(self, mean, var, m):
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            alpha = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean.mul_(1 - alpha).add_(alpha * mean)
            self.running_var.mul_(1 - alpha).add_(alpha * var)
