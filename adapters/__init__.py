"""Everything that touches the world: stores, downloads, launch plans, the command line. Import the module you need."""
