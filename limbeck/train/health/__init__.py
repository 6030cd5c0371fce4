"""Health of a run without labels: readings on a few images, checks of them, and a monitor that warns and stops."""
