"""An auth sidecar: who asks (a verified token), what for (an operation on a key), and whether the policy grants it."""

__version__ = "0.1.0"
