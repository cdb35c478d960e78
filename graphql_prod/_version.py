"""The version, where the build and the package both find it."""

__version__: str = "1.0.0"
