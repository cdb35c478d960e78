"""The version, where the build and the package both find it."""

__version__ = "0.1.0"
