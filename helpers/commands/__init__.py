"""The commands of the package, a module each: `before-ft COMMAND`, or `python -m helpers`."""
