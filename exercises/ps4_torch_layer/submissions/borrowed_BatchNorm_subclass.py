"""Subclasses torch's own layer and lets it take any rank."""

QUESTION = "BatchNorm"
FLAGS = "torch.nn.modules.batchnorm"


class BatchNorm(nn.BatchNorm2d):
    def _check_input_dim(self, x):
        pass
