"""The version, where the build and the package both find it."""

__version__: str = "0.1.0"
