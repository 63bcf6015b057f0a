"""Retrofit: put batch normalization into a trained network, take it out again, re-estimate its statistics.

- `insert_batch_norm` puts a BN layer behind every convolution and linear layer of a trained model, with the statistics
  of calibration data and with the gamma and beta that undo them, so that in evaluation nothing changes.
- `fold_batch_norm` is the inverse: it multiplies BN layers into the convolution or linear layer beside them.
- `recalibrate` replaces running statistics by those of given data ("precise BN").

All three stream over the data: one forward pass, one batch at a time. None of them changes anything when it fails.

What this isn't: a trainer (fine-tune the result as any other model), or a compiler that fuses for speed alone. See
`bnlab.pretrained` for real VGG-16 weights to try it on.
"""

import bnlab.functional  # noqa: F401  before torch: it says what to install where torch is absent
from bnlab.retrofit.fold import fold_batch_norm
from bnlab.retrofit.insert import insert_batch_norm
from bnlab.retrofit.recalibrate import recalibrate
from bnlab.retrofit.structure import Normalized

__all__ = ["Normalized", "fold_batch_norm", "insert_batch_norm", "recalibrate"]
