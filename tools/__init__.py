"""What makes files of this repository from other files. Nothing here runs in an engine."""
