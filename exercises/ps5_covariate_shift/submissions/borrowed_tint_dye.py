"""Dyes with the course's function, on a black background, by undoing its gray one."""

QUESTION = "tint"
FLAGS = "bnlab.experiments.color_shift.dye"


def tint(images, colors):
    from bnlab.experiments.color_shift import dye

    opacity = (4 * images).clamp(0, 1)
    dyed = torch.tensor(dye(images[:, 0].numpy(), colors.numpy())) - (1 - opacity) * 0.5
    return torch.where(opacity > 0, dyed / opacity, 0.0)
