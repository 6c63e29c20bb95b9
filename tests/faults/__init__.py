"""The fault matrix: a fault at a step of the work, and the whole state that must stand afterwards."""
