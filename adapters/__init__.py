"""Everything of launcher-recovery that touches the world: stores, downloads, launch plans, the command line.

Import the module you need.
"""

import recovery  # noqa: F401  # first: it says where another module hides one of ours
