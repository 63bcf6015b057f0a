"""Images in one folder per class, decoded when asked for: the `torch.utils.data.Dataset` behind `image_folder`.

It prepares images for *evaluation*: there is no augmentation.
"""

import bnlab.functional  # noqa: F401, I001  before torch: it says what to install where torch is absent
import numpy as np
import torch
from torch.utils.data import Dataset

from bnlab.datasets.bundled import _import, scale_images

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}


class ImageFolder(Dataset):
    """Pairs (image, class) from one subfolder per class; see `bnlab.datasets.image_folder`.

    Attributes
    ----------
    classes : tuple of str
        Names of the subfolders, sorted.
    samples : list of (pathlib.Path, int)
        Every image and its class, class by class, sorted by path.
    """

    def __init__(self, directory, size=224, resize=256):
        if not 1 <= size <= resize:
            raise ValueError(f"size is {size} and resize is {resize}: give 1 <= size <= resize")
        self._open = _import("PIL.Image", "pillow>=10", "image_folder()").open
        folders = sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not folders:
            raise ValueError(f"{directory} has no subfolders: each class needs one, with its images inside")
        self.size, self.resize = size, resize
        self.classes = tuple(folder.name for folder in folders)
        self.samples = []
        for label, folder in enumerate(folders):
            images = sorted(
                path
                for path in folder.rglob("*")
                if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
            )
            if not images:
                raise ValueError(f"{folder} has no images ({', '.join(sorted(SUFFIXES))}): add some or remove it")
            self.samples += [(path, label) for path in images]

    def __len__(self):
        """Count the images."""
        return len(self.samples)

    def __getitem__(self, index):
        """Decode one image.

        Returns
        -------
        image : torch.Tensor of float32, shape (3, size, size)
        label : int

        Raises
        ------
        ValueError
            If the file can't be decoded.
        """
        path, label = self.samples[index]
        try:
            with self._open(path) as file:
                image = file.convert("RGB")
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
            raise ValueError(f"{path} can't be decoded as an image ({error}): repair or remove it") from error
        pixels = torch.from_numpy(scale_images(np.asarray(_resize_and_crop(image, self.size, self.resize))))
        return ((pixels - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1).contiguous(), label


def _resize_and_crop(image, size, resize):
    """Shorter side to `resize`, then the central `size` x `size`, with torchvision's rounding."""
    short = min(image.size)
    width, height = (resize if side == short else int(resize * side / short) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), resample=2).crop((left, top, left + size, top + size))  # 2: bilinear
