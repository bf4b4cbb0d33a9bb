"""The documentation, and the script that makes its listening page."""
