"""Foundations of all other parts: errors, types, configurations, files, processes, devices, schedules, progress."""
