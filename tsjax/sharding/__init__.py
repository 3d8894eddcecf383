"""Meshes, and the rules from a parameter's meaning to a mesh axis."""
