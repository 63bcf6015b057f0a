"""How fast batch normalization is, here: ``python -m bnlab.benchmark``, or ``bnlab bench``.

`shapes` says what is measured, `layers` who competes, `measure` how, `report` shows it.
"""
