"""``python -m vggspec``, the same as ``vggspec``."""

from vggspec.cli import main

main()
