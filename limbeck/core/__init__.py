"""What every other part may use: errors, types, configurations, files, processes, devices, schedules, progress."""
