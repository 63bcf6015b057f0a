"""Calls PyTorch's own function."""

QUESTION = "fold_pair"
FLAGS = "torch.nn.utils.fusion"


def fold_pair(conv, bn):
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    return fuse_conv_bn_eval(conv, bn)
