"""Calls the course's own function."""

QUESTION = "insert_batch_norm"
FLAGS = "bnlab.retrofit"


def insert_batch_norm(model, batches, eps):
    from bnlab import retrofit

    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    return retrofit.insert_batch_norm(model, batches, layers=names, eps=eps).eval()
