"""The model that comes with llmos, for demonstration: ``models.json`` says what it is, ``model/`` holds it.

There is no code here: the kernel lists the model from ``models.json`` without importing this package.
"""

__version__ = "0.1.0"
