"""Reshapes (N, C, ...) to (C, N * ...), which mixes the channels."""

QUESTION = "channel_statistics"
LOSES = {
    "mean and variance of images",
    "any rank",
    "any order in memory",
    "half precision: computed and returned in float32",
    "the dtype of a full-precision input stays",
    "variance of a channel with a large mean",
    "gradient flows through both",
    "leaves its inputs as they were",
}
SAYS = "doesn't swap axes"


def channel_statistics(x):
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    rows = x.reshape(x.shape[1], -1)
    return rows.mean(dim=1), rows.var(dim=1, correction=0)
